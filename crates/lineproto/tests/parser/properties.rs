//! Whatever the bytes, the parser agrees with the reference, and what it gives is consistent.

use crate::invariants::assert_invariants;
use crate::reference;
use crate::rows::rows;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use tidemill_lineproto::{LineBuilder, ParseOptions, Precision, parse};

/// The lengths of strings are limited so that the limit is met.
const STRING_BYTES_MAX: usize = 40;
const DEFAULT_TIME_NS: i64 = 1_234_567_891_234_567_891;

fn check_against_reference(body: &str, precision: Precision) {
    let options = ParseOptions {
        precision,
        default_time_ns: DEFAULT_TIME_NS,
        string_bytes_max: STRING_BYTES_MAX,
    };
    let parsed = parse(body, &options);
    assert_invariants(body, &parsed);
    let expected = reference::parse(body, &options);
    assert_eq!(parsed.errors, expected.errors, "{body:?}");
    assert_eq!(rows(&parsed), expected.rows, "{body:?}");
}

fn any_precision() -> impl Strategy<Value = Precision> {
    prop::sample::select(vec![
        Precision::Auto,
        Precision::Second,
        Precision::Millisecond,
        Precision::Microsecond,
        Precision::Nanosecond,
    ])
}

/// Pieces that make up line protocol, most of it not quite right.
fn fragments() -> impl Strategy<Value = String> {
    let pieces = vec![
        "cpu",
        "mem",
        ",",
        ",",
        ",",
        "=",
        "=",
        "=",
        " ",
        " ",
        " ",
        "  ",
        "\n",
        "\n",
        "\n",
        "\r\n",
        "\r",
        "\t",
        "\"",
        "\"",
        "\"",
        "\\",
        "\\",
        "#",
        "a",
        "b",
        "v",
        "t",
        "T",
        "f",
        "true",
        "FALSE",
        "1",
        "23",
        "-1",
        "0",
        "i",
        "u",
        ".",
        ".5",
        "e",
        "e3",
        "E-2",
        "+",
        "-",
        "host",
        "host=a",
        ",host=b",
        ",b=x",
        "v=1",
        "v=2i",
        "w=\"s\"",
        "time",
        "__chunk_order",
        "ü",
        "漢",
        " 1700000000",
        " 1700000000000000000",
        "9223372036854775808",
        "-9223372036854775808",
        "99999999999999999999",
        "cpu,host=a v=1",
        "cpu,host=b,b=c v=2,w=3",
        "cpu v=1i,w=t",
        "mem v=\"x\",w=2u 7",
        "a_text_that_is_longer_than_the_limit_of_the_test",
        "0123456789012345678901234567890123456789",
    ];
    vec(prop::sample::select(pieces), 0..40).prop_map(|pieces| pieces.concat())
}

/// Lines that are right, or were before one byte of them was replaced.
fn nearly_valid() -> impl Strategy<Value = String> {
    let name = prop::sample::select(vec![
        "a",
        "b",
        "c\\ d",
        "e\\,f",
        "g\\=h",
        "long_name_beyond_16_bytes",
    ]);
    let value = prop::sample::select(vec![
        "1",
        "-1.5",
        "2e10",
        "3i",
        "-4i",
        "5u",
        "t",
        "false",
        "\"\"",
        "\"s\"",
        "\"a,b c=d\"",
        "\"q\\\"\\\\\"",
        "\"two\nlines\"",
        "0.1234567890123456789",
    ]);
    let tags = vec(
        (name.clone(), prop::sample::select(vec!["x", "y", "z\\ z", "ü=ö"])),
        0..4,
    );
    let fields = vec((name, value), 1..6);
    let time = option::of(prop::sample::select(vec![
        "0",
        "-5",
        "1700000000",
        "1700000000000000000",
    ]));
    let end = prop::sample::select(vec!["\n", "\n", "\n", "\r\n", "\n\n", " \n", "\n# comment \"\n"]);
    let line = (
        prop::sample::select(vec!["m", "n", "m\\ n"]),
        tags,
        fields,
        time,
        end,
    )
        .prop_map(|(measurement, tags, fields, time, end)| {
            let tags: Vec<String> = tags
                .iter()
                .map(|(key, value)| format!(",{key}={value}"))
                .collect();
            let fields: Vec<String> = fields
                .iter()
                .map(|(key, value)| format!("{key}={value}"))
                .collect();
            let time = time.map(|time| format!(" {time}")).unwrap_or_default();
            format!("{measurement}{} {}{time}{end}", tags.concat(), fields.join(","))
        });
    let damage = option::weighted(
        0.3,
        (
            any::<prop::sample::Index>(),
            prop::sample::select(b"\"\\ ,=\n1x".to_vec()),
        ),
    );
    (vec(line, 1..12), damage).prop_map(|(lines, damage)| {
        let body = lines.concat();
        let Some((index, byte)) = damage else { return body };
        let mut bytes = body.into_bytes();
        let at = index.index(bytes.len());
        if bytes[at].is_ascii() {
            bytes[at] = byte;
        }
        String::from_utf8(bytes).expect("an ASCII byte replaced another")
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn fragments_agree_with_the_reference(body in fragments(), precision in any_precision()) {
        check_against_reference(&body, precision);
    }

    #[test]
    fn nearly_valid_lines_agree_with_the_reference(body in nearly_valid(), precision in any_precision()) {
        check_against_reference(&body, precision);
    }

    #[test]
    fn arbitrary_text_agrees_with_the_reference(body in any::<String>()) {
        check_against_reference(&body, Precision::Auto);
    }

    #[test]
    fn numbers_agree_with_the_standard_library(value in any::<f64>().prop_filter("finite", |v| v.is_finite())) {
        for text in [value.to_string(), format!("{value:e}"), format!("{value:.3}"), format!("{value:.17}")] {
            check_number(&text, text.parse().unwrap());
        }
    }

    #[test]
    fn decimals_agree_with_the_standard_library(text in "-?[0-9]{1,22}(\\.[0-9]{1,22})?([eE][+-]?[0-9]{1,2})?") {
        check_number(&text, text.parse().unwrap());
    }

    #[test]
    fn built_lines_read_back(
        measurement in "[a-zü,=\"]{0,5}[a-z]",
        tags in vec(("[a-z]{1,3}", "[a-zü ,=\"]{1,8}"), 0..4),
        strings in vec(("s[a-z]{1,3}", any::<String>()), 0..4),
        floats in vec(("f[a-z]{1,3}", any::<f64>().prop_filter("finite", |v| v.is_finite())), 0..4),
        integer in any::<i64>(),
        unsigned in any::<u64>(),
        boolean in any::<bool>(),
        time_ns in option::of(any::<i64>()),
    ) {
        let mut builder = LineBuilder::new(measurement.as_str()).unwrap();
        for (key, value) in &tags {
            builder.tag(&format!("tag_{key}"), value.as_str()).unwrap();
        }
        for (key, value) in &strings {
            builder.string_field(key, value).unwrap();
        }
        for (key, value) in &floats {
            builder.float64_field(key, *value).unwrap();
        }
        builder.int64_field("i", integer).unwrap().uint64_field("u", unsigned).unwrap();
        builder.bool_field("b", boolean).unwrap().time_ns(time_ns);
        let line = builder.build().unwrap();
        let options = ParseOptions::new(Precision::Nanosecond, DEFAULT_TIME_NS);
        let parsed = parse(&line, &options);
        assert_invariants(&line, &parsed);
        prop_assert_eq!(&parsed.errors, &[], "{}", line);
        let row = &rows(&parsed)[0];
        prop_assert_eq!(&row.table, &measurement);
        prop_assert_eq!(row.time_ns, time_ns.unwrap_or(DEFAULT_TIME_NS));
        let tags: std::collections::BTreeMap<_, _> =
            tags.into_iter().map(|(key, value)| (format!("tag_{key}"), value)).collect();
        prop_assert_eq!(&row.tags, &tags);
        let mut fields: std::collections::BTreeMap<_, _> =
            strings.into_iter().map(|(key, value)| (key, format!("{value:?}"))).collect();
        for (key, value) in floats {
            // Minus zero is written as zero.
            fields.insert(key, format!("{:?}", value + 0.0));
        }
        fields.insert("i".to_owned(), format!("{integer}i"));
        fields.insert("u".to_owned(), format!("{unsigned}u"));
        fields.insert("b".to_owned(), boolean.to_string());
        prop_assert_eq!(&row.fields, &fields);
    }
}

#[track_caller]
fn check_number(text: &str, expected: f64) {
    let body = format!("m f={text}");
    let parsed = parse(&body, &ParseOptions::new(Precision::Auto, 0));
    assert_eq!(rows(&parsed)[0].fields["f"], format!("{expected:?}"), "{text}");
}
