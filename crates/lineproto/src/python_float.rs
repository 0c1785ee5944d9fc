//! Floats as Python writes them.

/// The decimal exponents, inclusive, between which Python writes a float without an exponent.
const POSITIONAL_EXPONENTS: std::ops::RangeInclusive<i32> = -4..=15;

/// What Python's `repr` and `str` give for a float: the shortest digits that read back as the same float,
/// with an exponent (`1e-07`, `1.5e+300`) if the number is below 1e-4 or from 1e16 on; `nan`, `inf`, `-inf`.
pub fn python_float_repr(value: f64) -> String {
    if value.is_nan() {
        return "nan".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 {
            "inf".to_owned()
        } else {
            "-inf".to_owned()
        };
    }
    let scientific = format!("{value:e}");
    let (mantissa, exponent) = scientific.split_once('e').expect("the format has an exponent");
    let exponent: i32 = exponent.parse().expect("the exponent is a small number");
    if !POSITIONAL_EXPONENTS.contains(&exponent) {
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{mantissa}e{sign}{:02}", exponent.unsigned_abs());
    }
    let mut text = value.to_string();
    if !text.contains('.') {
        text.push_str(".0");
    }
    text
}

/// How the plugins' line builder writes a float: a whole number with all its digits and `.0`, anything else
/// as [`python_float_repr`].
pub(crate) fn float_field_text(value: f64) -> String {
    if value == 0.0 {
        "0.0".to_owned()
    } else if value % 1.0 == 0.0 {
        format!("{value:.1}")
    } else {
        python_float_repr(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repr() {
        let check = |value: f64, expected: &str| assert_eq!(python_float_repr(value), expected);
        check(0.0, "0.0");
        check(-0.0, "-0.0");
        check(1.0, "1.0");
        check(-2.5, "-2.5");
        check(0.1, "0.1");
        check(0.1 + 0.2, "0.30000000000000004");
        check(1e-4, "0.0001");
        check(1.5e-4, "0.00015");
        check(1e-5, "1e-05");
        check(1e-7, "1e-07");
        check(-1.25e-10, "-1.25e-10");
        check(1e15, "1000000000000000.0");
        check(9_999_999_999_999_998.0, "9999999999999998.0");
        check(1e16, "1e+16");
        check(1.5e300, "1.5e+300");
        check(123_456_789.125, "123456789.125");
        check(5e-324, "5e-324");
        check(f64::MAX, "1.7976931348623157e+308");
        check(f64::NAN, "nan");
        check(f64::INFINITY, "inf");
        check(f64::NEG_INFINITY, "-inf");
    }

    #[test]
    fn field_text() {
        let check = |value: f64, expected: &str| assert_eq!(float_field_text(value), expected);
        check(86.5, "86.5");
        check(5.0, "5.0");
        check(-5.0, "-5.0");
        check(-0.0, "0.0");
        check(1e16, "10000000000000000.0");
        check(1e22, "10000000000000000000000.0");
        check(1e23, "99999999999999991611392.0");
        check(1e-7, "1e-07");
        check(f64::NAN, "nan");
        check(f64::NEG_INFINITY, "-inf");
        let large = float_field_text(1e300);
        assert_eq!(large.len(), 301 + 2);
        assert!(large.starts_with("1000000000000000052504760255204420248704468581108159154915854115"));
        assert!(large.ends_with("540195532886747.0") || large.ends_with(".0"));
    }
}
