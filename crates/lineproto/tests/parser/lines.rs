//! What the parser makes of lines, as input and output.

use crate::invariants::assert_invariants;
use crate::rows::render;
use tidemill_lineproto::{ERRORS_MAX, ParseOptions, Precision, parse};

const DEFAULT_TIME_NS: i64 = 1_700_000_000_123_456_789;

/// Checks what `body` is parsed to, rendered as text. Indentation does not count, so that the text fits into
/// the code.
#[track_caller]
fn check_with(precision: Precision, body: &str, expected: &str) {
    let options = ParseOptions {
        precision,
        default_time_ns: DEFAULT_TIME_NS,
        string_bytes_max: 30,
    };
    let parsed = parse(body, &options);
    assert_invariants(body, &parsed);
    let unindented =
        |text: &str| -> Vec<String> { text.lines().map(|line| line.trim().to_owned()).collect() };
    let rendered = render(&parsed);
    assert_eq!(
        unindented(&rendered),
        unindented(expected.trim()),
        "\n{rendered}\n"
    );
}

#[track_caller]
fn check(body: &str, expected: &str) {
    check_with(Precision::Nanosecond, body, expected);
}

/// Checks the message of a line that is alone in its body.
#[track_caller]
fn check_error(line: &str, message: &str) {
    let options = ParseOptions {
        string_bytes_max: 30,
        ..ParseOptions::new(Precision::Second, DEFAULT_TIME_NS)
    };
    let parsed = parse(line, &options);
    assert_invariants(line, &parsed);
    assert!(parsed.tables.is_empty(), "{line}");
    assert_eq!(parsed.errors.len(), 1, "{line}");
    assert_eq!(parsed.errors[0].message, message, "{line}");
}

#[test]
fn all_types() {
    check(
        "m,t=x f=1.5,i=-2i,u=3u,s=\"text\",b=t 17",
        "m: t tag, f float, i integer, u uinteger, s string, b boolean, time time
           1: x, 1.5, -2i, 3u, \"text\", true, 17 (set 0)",
    );
}

#[test]
fn nothing_to_write() {
    check("", "");
    check("\n\r\n  \n\t\n", "");
    check("# a comment\n   # another, with a \"\n", "");
}

#[test]
fn rows_of_tables() {
    check(
        "cpu,host=a v=1 1\nmem,host=a v=2 2\ncpu,host=b v=3 3\ncpu,host=a v=4 4\nmem,host=a v=5 5",
        "cpu: host tag, v float, time time
           1: a, 1.0, 1 (set 0)
           3: b, 3.0, 3 (set 1)
           4: a, 4.0, 4 (set 0)
         mem: host tag, v float, time time
           2: a, 2.0, 2 (set 0)
           5: a, 5.0, 5 (set 0)",
    );
}

#[test]
fn missing_columns_are_null() {
    check(
        "m,a=1 x=1,y=2 1\nm,b=2 y=3 2\nm z=t 3\nm,b=2,a=1 x=4,z=f 4",
        "m: a tag, b tag, x float, y float, z boolean, time time
           1: 1, -, 1.0, 2.0, -, 1 (set 0)
           2: -, 2, -, 3.0, -, 2 (set 1)
           3: -, -, -, -, true, 3 (set 2)
           4: 1, 2, 4.0, -, false, 4 (set 3)",
    );
}

#[test]
fn fields_in_any_order() {
    check(
        "m a=1,b=2,c=3 1\nm c=4,a=5 2\nm b=6,c=7,a=8 3\nm a=9,c=10 4",
        "m: a float, b float, c float, time time
           1: 1.0, 2.0, 3.0, 1 (set 0)
           2: 5.0, -, 4.0, 2 (set 0)
           3: 8.0, 6.0, 7.0, 3 (set 0)
           4: 9.0, -, 10.0, 4 (set 0)",
    );
}

#[test]
fn two_types_are_two_columns() {
    check(
        "m v=1 1\nm v=2i 2\nm v=\"3\" 3\nm v=4 4\nm,v=5 w=1 5",
        "m: v tag, v float, v integer, v string, w float, time time
           1: -, 1.0, -, -, -, 1 (set 0)
           2: -, -, 2i, -, -, 2 (set 0)
           3: -, -, -, \"3\", -, 3 (set 0)
           4: -, 4.0, -, -, -, 4 (set 0)
           5: 5, -, -, -, 1.0, 5 (set 1)",
    );
}

#[test]
fn spellings_of_one_tag_set() {
    check(
        "m,a=1,b=2 v=1 1\nm,b=2,a=1 v=2 2\nm,a=1,b=2 v=3 3",
        "m: a tag, b tag, v float, time time
           1: 1, 2, 1.0, 1 (set 0)
           2: 1, 2, 2.0, 2 (set 1)
           3: 1, 2, 3.0, 3 (set 0)",
    );
}

#[test]
fn escapes() {
    check(
        r"my\ table\,x=y\z,tag\ key=a\,b\ c\=d,p=C:\dir fi\eld\ \,\==1 1",
        r"my table,x=y\z: tag key tag, p tag, fi\eld ,= float, time time
            1: a,b c=d, C:\dir, 1.0, 1 (set 0)",
    );
    check(
        r#"m,t=a=b,u="q" s="a \"quoted\" \\ \x, = end" 1"#,
        r#"m: t tag, u tag, s string, time time
             1: a=b, "q", "a \"quoted\" \\ \\x, = end", 1 (set 0)"#,
    );
    check(
        "m,t=\\\\\\,x v=1 1",
        "m: t tag, v float, time time\n1: \\\\,x, 1.0, 1 (set 0)",
    );
    check(
        "größe,stadt=köln wärme=\"漢字\" 1",
        "größe: stadt tag, wärme string, time time\n1: köln, \"漢字\", 1 (set 0)",
    );
}

#[test]
fn spaces() {
    check("  m,t=x   v=1   1  \n\tm v=2\n", {
        "m: t tag, v float, time time
           1: x, 1.0, 1 (set 0)
           2: -, 2.0, 1700000000123456789 (set 1)"
    });
}

#[test]
fn line_ends() {
    check(
        "m v=1 1\r\nm v=2\r\n\r\nm s=\"x\" \r\nm b=t 3\r",
        "m: v float, s string, b boolean, time time
           1: 1.0, -, -, 1 (set 0)
           2: 2.0, -, -, 1700000000123456789 (set 0)
           4: -, \"x\", -, 1700000000123456789 (set 0)
           5: -, -, true, 3 (set 0)",
    );
    check(
        "m,t=x\ry v\r=1 1",
        "m: t tag, v\r float, time time\n1: x\ry, 1.0, 1 (set 0)",
    );
}

#[test]
fn newlines_in_strings() {
    check(
        "# one\nm s=\"a\nb\n\" 1\nm v=1 2\nbad\nm s=\"c\r\nd\",v=2 3\nbad",
        "m: s string, v float, time time
           2: \"a\\nb\\n\", -, 1 (set 0)
           5: -, 1.0, 2 (set 0)
           7: \"c\\r\\nd\", 2.0, 3 (set 0)
         error 6: Expected at least one space character, got end of input | bad
         error 9: Expected at least one space character, got end of input | bad",
    );
}

#[test]
fn precisions() {
    let times = |precision: Precision, timestamps: &str, expected: &str| {
        let lines: Vec<String> = timestamps
            .split(' ')
            .map(|timestamp| format!("m v=1 {timestamp}"))
            .collect();
        let body = lines.join("\n");
        let expected: Vec<String> = expected
            .split(' ')
            .enumerate()
            .map(|(index, time_ns)| format!("{}: 1.0, {time_ns} (set 0)", index + 1))
            .collect();
        check_with(
            precision,
            &body,
            &format!("m: v float, time time\n{}", expected.join("\n")),
        );
    };
    times(Precision::Nanosecond, "1 -1", "1 -1");
    times(Precision::Microsecond, "1 -1", "1000 -1000");
    times(Precision::Millisecond, "1 -1", "1000000 -1000000");
    times(Precision::Second, "1 -1", "1000000000 -1000000000");
    times(
        Precision::Auto,
        "-5 4999999999 5000000000 5000000000000 5000000000000000",
        "-5000000000 4999999999000000000 5000000000000000 5000000000000000 5000000000000000",
    );
    times(Precision::Nanosecond, "", "1700000000123456789");
    times(Precision::Auto, "", "1700000000123456789");
    times(Precision::Microsecond, "", "1700000000123456000");
    times(Precision::Millisecond, "", "1700000000123000000");
    times(Precision::Second, "", "1700000000000000000");
    times(
        Precision::Nanosecond,
        "9223372036854775807 -9223372036854775808",
        "9223372036854775807 -9223372036854775808",
    );
}

#[test]
fn errors_of_the_series() {
    check_error(",t=x v=1", "Invalid measurement was provided");
    check_error("cpu", "Expected at least one space character, got end of input");
    check_error(
        "cpu,t=x",
        "Expected at least one space character, got end of input",
    );
    check_error(
        "cpu,t=x\r\n",
        "Expected at least one space character, got end of input",
    );
    check_error(
        "cpu,t v=1",
        "Tag set malformed: could not find equals sign in `t v=1`",
    );
    check_error(
        "cpu,a=b,t v=1",
        "Tag set malformed: could not find equals sign in `t v=1`",
    );
    check_error("cpu,t", "Tag set malformed: could not find equals sign in `t`");
    check_error("cpu, v=1", "Expected tag key, got ` v=1`");
    check_error("cpu,=x v=1", "Expected tag key, got `=x v=1`");
    check_error("cpu,a=b, v=1", "Expected tag key, got ` v=1`");
    check_error("cpu,", "Expected tag key, got end of input");
    check_error("cpu,t= v=1", "Expected tag value, got ` v=1`");
    check_error("cpu,t=,a=b v=1\n", "Expected tag value, got `,a=b v=1`");
    check_error("cpu,t=", "Expected tag value, got end of input");
    check_error(
        "cpu,t=x,t=x v=1",
        "invalid line protocol - multiple instances of 't' tag found",
    );
    check_error(
        "cpu,t\\,=x,t\\,=y v=1",
        "invalid line protocol - multiple instances of 't,' tag found",
    );
    check_error(
        "cpu,time=x v=1",
        "invalid column type for column 'time', expected iox::column_type::timestamp, got iox::column_type::tag",
    );
    check_error(
        "cpu,__chunk_order=x v=1",
        "invalid line protocol - the column name '__chunk_order' is reserved",
    );
}

#[test]
fn errors_of_backslashes() {
    for line in [
        "cpu\\",
        "cpu\\\n",
        "cpu\\\r\n",
        "cpu\\\\ v=1",
        "cpu,t\\",
        "cpu,t\\\\=x v=1",
        "cpu,t=x\\",
        "cpu,t=x\\\\ v=1",
        "cpu,t=x\\\\,u=y v=1",
        "cpu v\\",
        "cpu v\\\\=1",
        "cpu v=1,w\\",
        "cpu v=1,w\\\n",
    ] {
        check_error(
            line.trim_end_matches('\n'),
            "Measurements, tag keys and values, and field keys may not end with a backslash",
        );
    }
}

#[test]
fn errors_of_fields() {
    check_error("cpu ", "No fields were provided");
    check_error("cpu,t=x  \n", "No fields were provided");
    check_error("cpu v", "No fields were provided");
    check_error("cpu =1", "No fields were provided");
    check_error("cpu v=", "No fields were provided");
    check_error("cpu v=bad", "No fields were provided");
    check_error("cpu v=+1", "No fields were provided");
    check_error("cpu v=.5", "No fields were provided");
    check_error("cpu v=nan", "No fields were provided");
    check_error("cpu v=inf", "No fields were provided");
    check_error("cpu v=-", "No fields were provided");
    check_error("cpu v=\"open", "No fields were provided");
    check_error(
        "cpu v=1.",
        "Could not parse entire line. Found trailing content: `.`",
    );
    check_error(
        "cpu v=1,",
        "Could not parse entire line. Found trailing content: `,`",
    );
    check_error(
        "cpu v=1,w",
        "Could not parse entire line. Found trailing content: `,w`",
    );
    check_error(
        "cpu v=1,w=x 5",
        "Could not parse entire line. Found trailing content: `,w=x 5`",
    );
    check_error(
        "cpu v=1,=2",
        "Could not parse entire line. Found trailing content: `,=2`",
    );
    check_error(
        "cpu v=1x",
        "Could not parse entire line. Found trailing content: `x`",
    );
    check_error(
        "cpu v=tr",
        "Could not parse entire line. Found trailing content: `r`",
    );
    check_error(
        "cpu v=\"s\"x",
        "Could not parse entire line. Found trailing content: `x`",
    );
    check_error(
        "cpu v=-5u",
        "Could not parse entire line. Found trailing content: `u`",
    );
    check_error(
        "cpu v=1\ry",
        "Could not parse entire line. Found trailing content: `\ry`",
    );
    check_error(
        "cpu v=9223372036854775808i",
        "Unable to parse integer value `9223372036854775808`",
    );
    check_error(
        "cpu v=-9223372036854775809i",
        "Unable to parse integer value `-9223372036854775809`",
    );
    check_error(
        "cpu v=18446744073709551616u",
        "Unable to parse unsigned integer value `18446744073709551616`",
    );
    check_error("cpu v=1e999", "Unable to parse floating-point value `1e999`");
    for line in [
        "m usage=1,usage=1",
        "m usage=1,usage=2i",
        "m usage=1i,a=1,usage=2",
        "m a=1,usage=t,usage=f",
    ] {
        check_error(
            line,
            "invalid line protocol - multiple instances of 'usage' field found",
        );
    }
    check_error(
        "m,a=x a=1",
        "invalid column type for column 'a', expected iox::column_type::tag, got iox::column_type::field::float",
    );
    check_error(
        "m time=1i",
        "invalid column type for column 'time', expected iox::column_type::timestamp, \
         got iox::column_type::field::integer",
    );
    check_error(
        "m __chunk_order=1",
        "invalid line protocol - the column name '__chunk_order' is reserved",
    );
}

#[test]
fn errors_of_the_time() {
    check_error(
        "cpu v=1 abc",
        "Could not parse entire line. Found trailing content: ` abc`",
    );
    check_error(
        "cpu v=1 -",
        "Could not parse entire line. Found trailing content: ` -`",
    );
    check_error(
        "cpu v=1 5x",
        "Could not parse entire line. Found trailing content: `x`",
    );
    check_error(
        "cpu v=1 5 6",
        "Could not parse entire line. Found trailing content: `6`",
    );
    check_error(
        "cpu v=1 5.5",
        "Could not parse entire line. Found trailing content: `.5`",
    );
    check_error(
        "cpu v=1 99999999999999999999",
        "Unable to parse timestamp value `99999999999999999999`",
    );
    check_error(
        "cpu v=1 99999999999999",
        "timestamp, 99999999999999, out of range for precision: Second",
    );
}

#[test]
fn errors_of_length() {
    let long = "x".repeat(31);
    let message = "String is greater than 1MB";
    check_error(&format!("{long} v=1"), message);
    check_error(&format!("m,{long}=x v=1"), message);
    check_error(&format!("m,t={long} v=1"), message);
    check_error(&format!("m {long}=1"), message);
    check_error(&format!("m v=\"{long}\""), message);
    check_error(&format!("m v=\"\\\"{long}\""), message);
    // Thirty bytes are allowed, and only what the text says is counted.
    let text = "y".repeat(30);
    let escaped = "\\\"".repeat(30);
    check(
        &format!("{text},{text}=t v=\"{escaped}\" 1"),
        &format!(
            "{text}: {text} tag, v string, time time\n1: t, {:?}, 1 (set 0)",
            "\"".repeat(30)
        ),
    );
}

#[test]
fn names_that_fields_and_tags_share() {
    check(
        "m,a=x v=1 1\nm a=2 2\nm,a=x a=3 3\nm,b=y a=4,b=5 4\nm,b=y a=6 5\nm,a=z v=7,a=8 6",
        "m: a tag, b tag, v float, a float, time time
           1: x, -, 1.0, -, 1 (set 0)
           2: -, -, -, 2.0, 2 (set 1)
           5: -, y, -, 6.0, 5 (set 2)
         error 3: invalid column type for column 'a', expected iox::column_type::tag, got iox::column_type::field::float | m,a=x a=3 3
         error 4: invalid column type for column 'b', expected iox::column_type::tag, got iox::column_type::field::float | m,b=y a=4,b=5 4
         error 6: invalid column type for column 'a', expected iox::column_type::tag, got iox::column_type::field::float | m,a=z v=7,a=8 6",
    );
    check(
        "m v=1 1\nm v=2i 2\nm v=3i,v=4 3\nm v=5,v=6i 4\nm v=7 5",
        "m: v float, v integer, time time
           1: 1.0, -, 1 (set 0)
           2: -, 2i, 2 (set 0)
           5: 7.0, -, 5 (set 0)
         error 3: invalid line protocol - multiple instances of 'v' field found | m v=3i,v=4 3
         error 4: invalid line protocol - multiple instances of 'v' field found | m v=5,v=6i 4",
    );
}

#[test]
fn a_rejected_line_leaves_nothing() {
    check(
        "a,t=x v=1,w=",
        "error 1: Could not parse entire line. Found trailing content: `,w=` | a,t=x v=1,w=",
    );
    check(
        "m,t=a v=1 1\nm,t=b,u=c n=1,v=2,s=\"x\",v=3 2\nn,t=a v=1 x\nm,t=c s=\"y\" 4\nm,t=b v=5 5",
        "m: t tag, v float, s string, time time
           1: a, 1.0, -, 1 (set 0)
           4: c, -, \"y\", 4 (set 1)
           5: b, 5.0, -, 5 (set 2)
         error 2: invalid line protocol - multiple instances of 'v' field found | m,t=b,u=c n=1,v=2,s=\"x\",v=3 2
         error 3: Could not parse entire line. Found trailing content: ` x` | n,t=a v=1 x",
    );
    // The order of the columns is that of the accepted lines.
    check(
        "m,b=1 y=1,x=2 bad\nm,a=1 x=1 1\nm,b=1 y=1 2",
        "m: a tag, b tag, x float, y float, time time
           2: 1, -, 1.0, -, 1 (set 0)
           3: -, 1, -, 1.0, 2 (set 1)
         error 1: Could not parse entire line. Found trailing content: ` bad` | m,b=1 y=1,x=2 bad",
    );
    // The rejected row is the next one's place.
    check(
        "m i=1i,s=\"a\",b=t,u=1u 1\nm i=2i,s=\"b\",b=f,u=2u x\nm s=\"c\" 3\nm i=4i,b=f,u=4u 4",
        "m: i integer, s string, b boolean, u uinteger, time time
           1: 1i, \"a\", true, 1u, 1 (set 0)
           3: -, \"c\", -, -, 3 (set 0)
           4: 4i, -, false, 4u, 4 (set 0)
         error 2: Could not parse entire line. Found trailing content: ` x` | m i=2i,s=\"b\",b=f,u=2u x",
    );
}

#[test]
fn where_a_rejected_line_ends() {
    // A closed string belongs to its line, whatever is wrong with the line.
    check(
        "m v=,s=\"x\nm v=1 1\n\" 5\nm v=2 2",
        "m: v float, time time
           4: 2.0, 2 (set 0)
         error 1: No fields were provided | m v=,s=\"x
         m v=1 1
         \" 5",
    );
    // A forgotten quote takes no other line with it.
    check(
        "m s=\"x 1\nm s=\"y\" 2\nm v=3 3",
        "m: s string, v float, time time
           2: \"y\", -, 2 (set 0)
           3: -, 3.0, 3 (set 0)
         error 1: Could not parse entire line. Found trailing content: `y\" 2` | m s=\"x 1",
    );
    check(
        "m s=\"x 1\nm v=3 3",
        "m: v float, time time
           2: 3.0, 3 (set 0)
         error 1: No fields were provided | m s=\"x 1",
    );
}

#[test]
fn errors_name_the_physical_line() {
    check(
        "\n\n# c\nx\n\ny v=1 1\n  z\n",
        "y: v float, time time
           6: 1.0, 1 (set 0)
         error 4: Expected at least one space character, got end of input | x
         error 7: Expected at least one space character, got end of input |   z",
    );
}

#[test]
fn many_errors_are_counted() {
    let body = "x\n".repeat(ERRORS_MAX + 5);
    let parsed = parse(&body, &ParseOptions::new(Precision::Auto, 0));
    assert_eq!(parsed.errors.len(), ERRORS_MAX);
    assert_eq!(parsed.rejected_count, ERRORS_MAX + 5);
    assert_eq!(parsed.line_count, ERRORS_MAX + 5);
}

#[test]
fn time_range() {
    let parsed = parse(
        "m v=1 5\nm v=1 -3\nm v=1 9",
        &ParseOptions::new(Precision::Nanosecond, 0),
    );
    assert_eq!((parsed.tables[0].time_min, parsed.tables[0].time_max), (-3, 9));
}

#[test]
fn many_tag_sets_in_turn() {
    let hosts = 300;
    let line = |row: usize| format!("m,host=h{},r=x v={row}i {row}", row * 7 % hosts);
    let body = (0..1_000).map(line).collect::<Vec<_>>().join("\n");
    let parsed = parse(&body, &ParseOptions::new(Precision::Nanosecond, 0));
    assert_invariants(&body, &parsed);
    let table = &parsed.tables[0];
    assert_eq!(table.tag_set_first_row.len(), hosts);
    for (row, host) in crate::rows::rows(&parsed)
        .iter()
        .zip((0..1_000).map(|row| row * 7 % hosts))
    {
        assert_eq!(row.tags["host"], format!("h{host}"));
    }
}
