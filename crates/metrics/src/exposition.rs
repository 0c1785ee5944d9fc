//! The Prometheus text format (<https://prometheus.io/docs/instrumenting/exposition_formats>).

use std::fmt::{self, Write};

use crate::duration_histogram::{BUCKET_BOUNDS_NS, Durations};

/// The value of `Content-Type`.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What a metric's values mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Grows until the program ends.
    Counter,
    /// Goes up and down.
    Gauge,
}

/// An answer in the making. The samples of one metric must follow one another, so a metric is written as a whole.
#[derive(Debug, Default)]
pub struct Exposition {
    text: String,
}

impl Exposition {
    /// Writes a metric: its samples are labels, as pairs of name and value, and a value. Without samples it is left out.
    pub fn metric<'a, L: AsRef<[(&'a str, &'a str)]>>(
        &mut self,
        name: &str,
        help: &str,
        kind: Kind,
        samples: impl IntoIterator<Item = (L, f64)>,
    ) {
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
        };
        let mut samples = samples.into_iter().peekable();
        if samples.peek().is_some() {
            self.head(name, help, kind);
        }
        for (labels, value) in samples {
            self.sample(name, "", labels.as_ref(), None, value);
        }
    }

    /// Writes a metric without labels.
    pub fn single(&mut self, name: &str, help: &str, kind: Kind, value: f64) {
        self.metric(name, help, kind, [([], value)]);
    }

    /// Writes histograms of durations, in seconds.
    pub fn durations<'a, L: AsRef<[(&'a str, &'a str)]>>(
        &mut self,
        name: &str,
        help: &str,
        samples: impl IntoIterator<Item = (L, Durations)>,
    ) {
        let mut samples = samples.into_iter().peekable();
        if samples.peek().is_some() {
            self.head(name, help, "histogram");
        }
        for (labels, durations) in samples {
            let labels = labels.as_ref();
            for (bound_ns, at_most) in BUCKET_BOUNDS_NS.iter().zip(durations.at_most) {
                let bound = seconds(*bound_ns).to_string();
                self.sample(name, "_bucket", labels, Some(&bound), number(at_most));
            }
            self.sample(name, "_bucket", labels, Some("+Inf"), number(durations.count));
            self.sample(name, "_sum", labels, None, seconds(durations.sum_ns));
            self.sample(name, "_count", labels, None, number(durations.count));
        }
    }

    /// The whole text.
    pub fn into_text(self) -> String {
        self.text
    }

    fn head(&mut self, name: &str, help: &str, kind: &str) {
        let help = help.replace('\\', "\\\\").replace('\n', "\\n");
        self.line(format_args!("# HELP {name} {help}\n# TYPE {name} {kind}"));
    }

    fn sample(&mut self, name: &str, suffix: &str, labels: &[(&str, &str)], bound: Option<&str>, value: f64) {
        let labels = labels.iter().copied().chain(bound.map(|bound| ("le", bound)));
        let labels: Vec<String> = labels
            .map(|(label, value)| format!("{label}=\"{}\"", escaped(value)))
            .collect();
        if labels.is_empty() {
            self.line(format_args!("{name}{suffix} {value}"));
        } else {
            self.line(format_args!("{name}{suffix}{{{}}} {value}", labels.join(",")));
        }
    }

    fn line(&mut self, line: fmt::Arguments<'_>) {
        writeln!(self.text, "{line}").expect("writing to a string does not fail");
    }
}

fn escaped(value: &str) -> String {
    value
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}

fn seconds(nanoseconds: u64) -> f64 {
    number(nanoseconds) / 1e9
}

#[expect(clippy::cast_precision_loss, reason = "the format has no other numbers")]
fn number(value: u64) -> f64 {
    value as f64
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::DurationHistogram;

    #[test]
    fn samples_have_their_labels_escaped() {
        let mut text = Exposition::default();
        text.single("up", "Whether it is up.\nYes or no: \\", Kind::Gauge, 1.0);
        let odd = "a \"b\"\\\nc";
        text.metric(
            "runs_total",
            "Runs.",
            Kind::Counter,
            [([("trigger", odd)], 2.0), ([("trigger", "t")], 1e18)],
        );
        text.metric(
            "none",
            "Nothing.",
            Kind::Gauge,
            std::iter::empty::<([(&str, &str); 0], f64)>(),
        );
        assert_eq!(
            text.into_text(),
            "# HELP up Whether it is up.\\nYes or no: \\\\\n# TYPE up gauge\nup 1\n\
             # HELP runs_total Runs.\n# TYPE runs_total counter\n\
             runs_total{trigger=\"a \\\"b\\\"\\\\\\nc\"} 2\nruns_total{trigger=\"t\"} 1000000000000000000\n"
        );
    }

    #[test]
    fn a_histogram_is_cumulative_and_in_seconds() {
        let histogram = DurationHistogram::default();
        histogram.observe(Duration::from_micros(100));
        histogram.observe(Duration::from_hours(1));
        let mut text = Exposition::default();
        text.durations("d_seconds", "D.", [([("t", "x")], histogram.durations())]);
        let text = text.into_text();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[1], "# TYPE d_seconds histogram");
        assert_eq!(lines[2], "d_seconds_bucket{t=\"x\",le=\"0.000025\"} 0");
        assert_eq!(lines[4], "d_seconds_bucket{t=\"x\",le=\"0.0001\"} 1");
        assert_eq!(
            lines[22..],
            [
                "d_seconds_bucket{t=\"x\",le=\"600\"} 1",
                "d_seconds_bucket{t=\"x\",le=\"+Inf\"} 2",
                "d_seconds_sum{t=\"x\"} 3600.0001",
                "d_seconds_count{t=\"x\"} 2",
            ]
        );
    }
}
