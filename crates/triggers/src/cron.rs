//! Cron expressions with standard weekdays, optional seconds and year, names and a time zone (engine.md 0.7, 1.4).

use std::sync::Arc;

use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};

/// A cron expression that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CronError {
    /// `TZ=` names no zone of the time zone database.
    #[error("unknown time zone '{0}'")]
    UnknownTimeZone(String),
    /// The fields are not a cron expression.
    #[error("{0}")]
    Expression(String),
}

/// A parsed cron expression. Equal if the source is.
#[derive(Clone, Debug)]
pub struct CronSchedule {
    source: String,
    zone: Tz,
    /// Shared, since the tables of a parsed expression are large and definitions are copied.
    cron: Arc<Cron>,
}

impl PartialEq for CronSchedule {
    fn eq(&self, other: &Self) -> bool {
        self.source == other.source
    }
}

impl Eq for CronSchedule {}

/// Names that are accepted beside the three-letter ones that the parser below knows.
const LONG_NAMES: [(&str, &str); 21] = [
    ("SUNDAY", "SUN"),
    ("MONDAY", "MON"),
    ("TUESDAY", "TUE"),
    ("TUES", "TUE"),
    ("WEDNESDAY", "WED"),
    ("THURSDAY", "THU"),
    ("THURS", "THU"),
    ("FRIDAY", "FRI"),
    ("SATURDAY", "SAT"),
    ("JANUARY", "JAN"),
    ("FEBRUARY", "FEB"),
    ("MARCH", "MAR"),
    ("APRIL", "APR"),
    ("JUNE", "JUN"),
    ("JULY", "JUL"),
    ("AUGUST", "AUG"),
    ("SEPTEMBER", "SEP"),
    ("SEPT", "SEP"),
    ("OCTOBER", "OCT"),
    ("NOVEMBER", "NOV"),
    ("DECEMBER", "DEC"),
];

impl CronSchedule {
    /// Reads `[TZ=<zone> ]<fields>`: five fields (seconds are 0), six (seconds first) or seven (year last), or one of
    /// `@yearly @annually @monthly @weekly @daily @hourly`. Weekdays are 0-7 with 0 and 7 = Sunday. Day of month and
    /// day of week must both match.
    pub fn parse(given: &str) -> Result<Self, CronError> {
        let given = given.trim();
        let (zone, expression) = match given.strip_prefix("TZ=") {
            None => (Tz::UTC, given),
            Some(rest) => {
                let (name, expression) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
                let zone = name
                    .parse()
                    .map_err(|_| CronError::UnknownTimeZone(name.to_owned()))?;
                (zone, expression.trim())
            }
        };
        let cron = CronParser::builder()
            .seconds(Seconds::Optional)
            .year(Year::Optional)
            .dom_and_dow(true)
            .sloppy_ranges(true)
            .build()
            .parse(&with_short_names(expression)?)
            .map_err(|error| CronError::Expression(error.to_string()))?;
        let source = if zone == Tz::UTC && !given.starts_with("TZ=") {
            given.to_owned()
        } else {
            format!("TZ={zone} {expression}")
        };
        Ok(Self {
            source,
            zone,
            cron: Arc::new(cron),
        })
    }

    /// The expression as it was given, without surrounding space.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// The zone in which the fields are read.
    pub fn zone(&self) -> Tz {
        self.zone
    }

    /// The first instant that matches and is after `instant`; `None` if there is none.
    pub fn after(&self, instant: DateTime<Utc>) -> Option<DateTime<Utc>> {
        self.find(instant, false)
    }

    /// The first instant that matches and is not before `instant`; `None` if there is none.
    pub fn at_or_after(&self, instant: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let whole_second = instant.timestamp_subsec_nanos() == 0;
        self.find(instant, whole_second)
    }

    /// The last instant that matches and is not after `instant`; `None` if there is none.
    pub fn at_or_before(&self, instant: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let whole_second = DateTime::from_timestamp(instant.timestamp(), 0)?;
        let found = self
            .cron
            .find_previous_occurrence(&whole_second.with_timezone(&self.zone), true)
            .ok()?;
        DateTime::from_timestamp(found.timestamp(), 0)
    }

    fn find(&self, instant: DateTime<Utc>, inclusive: bool) -> Option<DateTime<Utc>> {
        let found = self
            .cron
            .find_next_occurrence(&instant.with_timezone(&self.zone), inclusive)
            .ok()?;
        // Matches lie on whole seconds; the search keeps the fraction that it was started with.
        DateTime::from_timestamp(found.timestamp(), 0)
    }
}

/// The expression with long names shortened. Refuses letters where only numbers can stand: the parser replaces names
/// in every field alike.
fn with_short_names(expression: &str) -> Result<String, CronError> {
    if expression.starts_with('@') {
        return Ok(expression.to_owned());
    }
    let fields: Vec<String> = expression.split_whitespace().map(str::to_uppercase).collect();
    let seconds_fields = usize::from(fields.len() > 5);
    let mut shortened = Vec::with_capacity(fields.len());
    for (index, mut field) in fields.into_iter().enumerate() {
        let letters_allowed = match index.checked_sub(seconds_fields) {
            Some(2) => |letter: char| letter == 'L' || letter == 'W',
            Some(3 | 4) => |_: char| true,
            _ => |_: char| false,
        };
        if field
            .chars()
            .any(|letter| letter.is_alphabetic() && !letters_allowed(letter))
        {
            return Err(CronError::Expression(format!(
                "names are not allowed in '{field}'"
            )));
        }
        for (long, short) in LONG_NAMES {
            if field.contains(long) {
                field = field.replace(long, short);
            }
        }
        shortened.push(field);
    }
    Ok(shortened.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    /// Checks the instants that follow `start`.
    fn check(expression: &str, start: &str, expected: &[&str]) {
        let cron = CronSchedule::parse(expression).unwrap_or_else(|error| panic!("{expression}: {error}"));
        let mut instant = at(start);
        for next in expected {
            instant = cron
                .after(instant)
                .unwrap_or_else(|| panic!("{expression}: no instant after {instant}"));
            assert_eq!(instant, at(next), "{expression}");
        }
    }

    #[test]
    fn fields_names_and_shorthands() {
        let start = "2026-01-01T00:00:00.5Z"; // a Thursday
        check(
            "* * * * *",
            start,
            &["2026-01-01T00:01:00Z", "2026-01-01T00:02:00Z"],
        );
        check(
            "* * * * * *",
            start,
            &["2026-01-01T00:00:01Z", "2026-01-01T00:00:02Z"],
        );
        check(
            "*/20 * * * * *",
            start,
            &[
                "2026-01-01T00:00:20Z",
                "2026-01-01T00:00:40Z",
                "2026-01-01T00:01:00Z",
            ],
        );
        check(
            "5/20 * * * * *",
            start,
            &["2026-01-01T00:00:05Z", "2026-01-01T00:00:25Z"],
        );
        check("0 30 8 ? * ?", start, &["2026-01-01T08:30:00Z"]);
        check("0 0 0 1 1 * 2030", start, &["2030-01-01T00:00:00Z"]);
        check("@hourly", start, &["2026-01-01T01:00:00Z"]);
        check("@daily", start, &["2026-01-02T00:00:00Z"]);
        check("@weekly", start, &["2026-01-04T00:00:00Z"]);
        check("@monthly", start, &["2026-02-01T00:00:00Z"]);
        check("@yearly", start, &["2027-01-01T00:00:00Z"]);
        check(
            "0 0 1 FEB,march *",
            start,
            &["2026-02-01T00:00:00Z", "2026-03-01T00:00:00Z"],
        );
    }

    #[test]
    fn weekdays_are_the_standard_ones() {
        let start = "2026-01-01T00:00:00Z";
        for sunday in ["0", "7", "SUN", "sun", "Sunday"] {
            check(
                &format!("0 0 * * {sunday}"),
                start,
                &["2026-01-04T00:00:00Z", "2026-01-11T00:00:00Z"],
            );
        }
        check("0 0 * * 1", start, &["2026-01-05T00:00:00Z"]);
        check(
            "0 0 * * Monday-Wednesday",
            start,
            &[
                "2026-01-05T00:00:00Z",
                "2026-01-06T00:00:00Z",
                "2026-01-07T00:00:00Z",
                "2026-01-12T00:00:00Z",
            ],
        );
        check(
            "0 0 * * FRI-SUN",
            start,
            &[
                "2026-01-02T00:00:00Z",
                "2026-01-03T00:00:00Z",
                "2026-01-04T00:00:00Z",
                "2026-01-09T00:00:00Z",
            ],
        );
    }

    #[test]
    fn day_of_month_and_weekday_must_both_match() {
        check(
            "0 0 0 13 * FRI",
            "2026-01-01T00:00:00Z",
            &[
                "2026-02-13T00:00:00Z",
                "2026-03-13T00:00:00Z",
                "2026-11-13T00:00:00Z",
            ],
        );
    }

    #[test]
    fn a_time_zone_moves_with_its_clock() {
        let expression = "TZ=Europe/Berlin 30 2 * * *";
        // The night of 29 March 2026 has no 02:30 in Berlin; the run takes place right after the gap.
        check(
            expression,
            "2026-03-27T12:00:00Z",
            &[
                "2026-03-28T01:30:00Z",
                "2026-03-29T01:00:00Z",
                "2026-03-30T00:30:00Z",
            ],
        );
        // The night of 25 October 2026 has it twice; the run takes place once.
        check(
            expression,
            "2026-10-24T12:00:00Z",
            &["2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"],
        );
        let cron = CronSchedule::parse("TZ=Europe/Berlin   0 8 * * *").unwrap();
        assert_eq!(
            (cron.source(), cron.zone()),
            ("TZ=Europe/Berlin 0 8 * * *", Tz::Europe__Berlin)
        );
    }

    #[test]
    fn an_expression_without_a_future_is_accepted() {
        for expression in ["0 0 0 30 2 *", "0 0 0 1 1 * 1999"] {
            let cron = CronSchedule::parse(expression).unwrap();
            assert_eq!(cron.after(at("2026-01-01T00:00:00Z")), None, "{expression}");
        }
    }

    #[test]
    fn at_or_after_includes_a_matching_instant() {
        let cron = CronSchedule::parse("* * * * * *").unwrap();
        let instant = at("2026-01-01T00:00:07Z");
        assert_eq!(cron.at_or_after(instant), Some(instant));
        assert_eq!(cron.at_or_after(at("2026-01-01T00:00:06.001Z")), Some(instant));
        assert_eq!(cron.at_or_before(at("2026-01-01T00:00:07.999Z")), Some(instant));
        let daily = CronSchedule::parse("TZ=Europe/Berlin 0 8 * * *").unwrap();
        assert_eq!(
            daily.at_or_before(at("2026-01-02T06:59:59Z")),
            Some(at("2026-01-01T07:00:00Z"))
        );
    }

    #[test]
    fn what_is_not_cron_is_refused() {
        for expression in [
            "",
            "*",
            "* * * *",
            "* * * * * * * *",
            "60 * * * *",
            "* 24 * * *",
            "* * 0 * *",
            "* * * 13 *",
            "* * * * 8",
            "FRI * * * *",
            "* * * * * * MON",
            "@sometimes",
            "a b c d e",
            "TZ=Mars/Olympus * * * * *",
            "TZ=Europe/Berlin",
            "*/0 * * * *",
            "? * * * *",
        ] {
            assert!(CronSchedule::parse(expression).is_err(), "{expression}");
        }
    }
}
