//! `LineBuilder` as Python sees it; its rendering is tested in `tidemill-lineproto`.

use tidemill_worker_proto::EntryPoint;

use crate::harness::Session;

/// Logs the value of each expression, or the exception.
fn evaluate(expressions: &[&str]) -> Vec<String> {
    let prelude = "
from decimal import Decimal
from fractions import Fraction
class Short(float):
    def __str__(self): return 'short'
def lb(name='m'):
    return LineBuilder(name)
def attempt(look):
    try:
        return look()
    except Exception as error:
        return type(error).__name__ + ': ' + str(error)
def process_scheduled_call(api, call_time, args):
";
    let looks: Vec<String> = expressions
        .iter()
        .map(|look| format!("    api.info(attempt(lambda: {look}))\n"))
        .collect();
    let source = format!("{prelude}{}", looks.concat());
    let finished = Session::with_plugin(EntryPoint::ScheduledCall, &source).schedule();
    finished.logged().into_iter().map(str::to_owned).collect()
}

#[track_caller]
fn check(cases: &[(&str, &str)]) {
    let (expressions, expected): (Vec<&str>, Vec<&str>) = cases.iter().copied().unzip();
    let found = evaluate(&expressions);
    for ((expression, expected), found) in expressions.iter().zip(expected).zip(found) {
        assert_eq!(found, expected, "{expression}");
    }
}

#[test]
fn golden_lines() {
    check(&[
        (
            "lb('metrics').tag('host', 'server01').tag('region', 'us-west').int64_field('cpu', 42)\
             .uint64_field('memory_bytes', 8589934592).float64_field('load', 86.5).string_field('status', 'online')\
             .bool_field('healthy', True).time_ns(1609459200000000000).build()",
            "metrics,host=server01,region=us-west \
             cpu=42i,memory_bytes=8589934592u,load=86.5,status=\"online\",healthy=t 1609459200000000000",
        ),
        (
            r"lb().tag('t', 'C:\\Program Files\\App').bool_field('f', 0).build()",
            r"m,t=C:\\Program\ Files\\App f=f",
        ),
        (
            "lb().tag('t', 'y=mx+b').bool_field('f', []).build()",
            r"m,t=y\=mx+b f=f",
        ),
        (
            "lb().tag('t', 'web,app,db').bool_field('f', 'x').build()",
            r"m,t=web\,app\,db f=t",
        ),
        (
            "lb('complex,measurement').int64_field('f', 1).build()",
            r"complex\,measurement f=1i",
        ),
        (
            r#"lb().string_field('f', 'User said "Hello World"').build()"#,
            r#"m f="User said \"Hello World\"""#,
        ),
        (
            r"lb().string_field('f', 'Windows\\Unix paths').build()",
            r#"m f="Windows\\Unix paths""#,
        ),
    ]);
}

#[test]
fn values_become_text_as_python_would_write_them() {
    check(&[
        (
            "lb().tag('t', None).tag('n', 3).tag('f', 1.50).int64_field('f', 1).build()",
            "m,t=None,n=3,f=1.5 f=1i",
        ),
        (
            "lb().int64_field('a', 3.7).int64_field('b', True).int64_field('c', 10**30).build()",
            "m a=3.7i,b=Truei,c=1000000000000000000000000000000i",
        ),
        (
            "lb().uint64_field('a', 2**64 - 1).uint64_field('b', True).uint64_field('c', 2.5).build()",
            "m a=18446744073709551615u,b=Trueu,c=2.5u",
        ),
        (
            "lb().float64_field('a', 3).float64_field('b', Decimal('2.50')).float64_field('c', Decimal('2.00')).build()",
            "m a=3.0,b=2.50,c=2.0",
        ),
        (
            "lb().float64_field('a', 1e-07).float64_field('b', -0.0).float64_field('c', 1e16).float64_field('d', 1.5e300).build()[:40]",
            "m a=1e-07,b=0.0,c=10000000000000000.0,d=",
        ),
        (
            "lb().float64_field('a', float('nan')).float64_field('b', float('-inf')).build()",
            "m a=nan,b=-inf",
        ),
        (
            "lb().float64_field('a', Fraction(1, 3)).float64_field('b', True).build()",
            "m a=1/3,b=1.0",
        ),
        (
            "lb().float64_field('a', Short(2.5)).float64_field('b', Short(2)).build()",
            "m a=short,b=2.0",
        ),
        ("lb().int64_field('f', 1).time_ns('x').build()", "m f=1i x"),
        (
            "lb().int64_field('f', 1).time_ns(1).time_ns(None).build()",
            "m f=1i",
        ),
        ("lb().int64_field('f', 1).time_ns(-5).build()", "m f=1i -5"),
    ]);
}

#[test]
fn mistakes_are_named() {
    check(&[
        (
            "lb('a b')",
            "InvalidMeasurementError: Measurement name cannot contain spaces",
        ),
        (
            "lb().build()",
            "InvalidLineError: At least one field is required: m",
        ),
        (
            "lb().tag('t', 'v').build()",
            "InvalidLineError: At least one field is required: m,t=v",
        ),
        ("lb().tag('', 'v')", "InvalidKeyError: tag key cannot be empty"),
        (
            "lb().int64_field('a b', 1)",
            "InvalidKeyError: field key 'a b' cannot contain spaces",
        ),
        (
            "lb().bool_field('a,b', 1)",
            "InvalidKeyError: field key 'a,b' cannot contain commas",
        ),
        (
            "lb().string_field('a=b', 'x')",
            "InvalidKeyError: field key 'a=b' cannot contain equals signs",
        ),
        (
            "lb().uint64_field('f', -1)",
            "ValueError: uint64 field 'f' cannot be negative",
        ),
        (
            "lb().uint64_field('f', -10**30)",
            "ValueError: uint64 field 'f' cannot be negative",
        ),
        (
            "lb().uint64_field('f', 'x')",
            "TypeError: '<' not supported between instances of 'str' and 'int'",
        ),
        (
            "lb().string_field('f', 5)",
            "AttributeError: 'int' object has no attribute 'replace'",
        ),
        (
            "lb().float64_field('f', 'x')",
            "TypeError: not all arguments converted during string formatting",
        ),
        (
            "lb(5) and None",
            "TypeError: 'int' object is not an instance of 'str'",
        ),
    ]);
}

#[test]
fn parts_can_be_read_and_builders_copied() {
    check(&[
        ("lb('a,b').measurement", "a,b"),
        (
            "lb().tag('t', 'a b').tag('u', 1).tag('t', 2).tags",
            "{'t': '2', 'u': '1'}",
        ),
        (
            "lb().int64_field('i', 1).string_field('s', 'x').fields",
            "{'i': '1i', 's': '\"x\"'}",
        ),
        ("(lb()._timestamp_ns, lb().time_ns(7)._timestamp_ns)", "(None, 7)"),
        (
            "[__import__('copy').deepcopy(b).int64_field('g', 2).build() + ' ' + b.build() for b in [lb().int64_field('f', 1)]]",
            "['m f=1i,g=2i m f=1i']",
        ),
    ]);
}

#[test]
fn values_may_use_the_builder_while_they_become_text() {
    check(&[(
        "[b.tag('t', type('V', (), {'__str__': lambda self: str(b.int64_field('f', 1).fields)})()).build() for b in [lb()]]",
        r#"["m,t={'f':\\ '1i'} f=1i"]"#,
    )]);
}
