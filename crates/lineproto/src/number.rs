//! Numbers: runs of digits read eight at a time, floats that are exact without more ado, and the general
//! cases.

use crate::source::Source;

/// The most digits whose value always fits 64 bits.
const DIGITS_EXACT_MAX: usize = 19;
/// Integers up to here are exact as floats.
const FLOAT_INTEGER_MAX: u64 = 1 << 53;

const POWERS_OF_TEN: [u64; DIGITS_EXACT_MAX + 1] = {
    let mut powers = [1; DIGITS_EXACT_MAX + 1];
    let mut exponent = 1;
    while exponent < powers.len() {
        powers[exponent] = powers[exponent - 1] * 10;
        exponent += 1;
    }
    powers
};

/// The powers of ten that a float holds exactly, as far as they are needed here.
const FLOAT_POWERS_OF_TEN: [f64; DIGITS_EXACT_MAX + 1] = {
    let mut powers = [1.0; DIGITS_EXACT_MAX + 1];
    let mut exponent = 1;
    while exponent < powers.len() {
        powers[exponent] = powers[exponent - 1] * 10.0;
        exponent += 1;
    }
    powers
};

/// A run of decimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Digits {
    /// The number they stand for; meaningless if `!fits()`.
    pub(crate) value: u64,
    pub(crate) count: usize,
}

impl Digits {
    /// Whether `value` holds the number.
    #[inline]
    pub(crate) fn fits(self) -> bool {
        self.count <= DIGITS_EXACT_MAX
    }
}

/// The digits from `at`; none if there is none.
#[inline]
pub(crate) fn digits(source: &Source<'_>, at: usize) -> Digits {
    let (mut value, mut count) = digits_of_chunk(chunk(source.bytes, at));
    let mut in_chunk = count;
    while in_chunk == 8 {
        let more;
        (more, in_chunk) = digits_of_chunk(chunk(source.bytes, at + count));
        value = value.wrapping_mul(POWERS_OF_TEN[in_chunk]).wrapping_add(more);
        count += in_chunk;
    }
    Digits { value, count }
}

/// The eight bytes from `at`, zeros beyond the end.
#[inline]
fn chunk(bytes: &[u8], at: usize) -> u64 {
    match bytes.get(at..).and_then(|rest| rest.first_chunk::<8>()) {
        Some(chunk) => u64::from_le_bytes(*chunk),
        None => last_chunk(bytes, at),
    }
}

#[cold]
fn last_chunk(bytes: &[u8], at: usize) -> u64 {
    let rest = bytes.get(at..).unwrap_or_default();
    let mut chunk = [0; 8];
    chunk[..rest.len()].copy_from_slice(rest);
    u64::from_le_bytes(chunk)
}

/// The number that the leading digits of eight bytes stand for, and how many they are.
#[inline]
fn digits_of_chunk(chunk: u64) -> (u64, usize) {
    const ASCII_ZEROS: u64 = 0x3030_3030_3030_3030;
    const ABOVE_NINE: u64 = 0x7676_7676_7676_7676;
    const HIGH_BITS: u64 = 0x8080_8080_8080_8080;
    // Digits become 0 to 9, everything else more. A carry out of a byte that is no digit only reaches bytes
    // behind it.
    let nibbles = chunk ^ ASCII_ZEROS;
    let not_digits = (nibbles.wrapping_add(ABOVE_NINE) | nibbles) & HIGH_BITS;
    let count = (not_digits.trailing_zeros() / 8) as usize;
    if count == 0 {
        return (0, 0);
    }
    // The digits move to the end of the chunk, zeros come before them. Then neighbours are joined: 2, 4, 8
    // digits.
    let digits = nibbles << (8 * (8 - count));
    let pairs = (digits.wrapping_mul((10 << 8) + 1) >> 8) & 0x00ff_00ff_00ff_00ff;
    let quads = (pairs.wrapping_mul((100 << 16) + 1) >> 16) & 0x0000_ffff_0000_ffff;
    let value = quads.wrapping_mul((10_000 << 32) + 1) >> 32;
    (value, count)
}

/// The float of `whole.fraction` (without exponent), if it can be had exactly by one division.
#[inline]
pub(crate) fn simple_float(negative: bool, whole: Digits, fraction: Digits) -> Option<f64> {
    if whole.count + fraction.count > DIGITS_EXACT_MAX {
        return None;
    }
    let mantissa = whole.value * POWERS_OF_TEN[fraction.count] + fraction.value;
    if mantissa > FLOAT_INTEGER_MAX {
        return None;
    }
    // Both operands are exact, so that the quotient is the float nearest to the number.
    let magnitude = mantissa as f64 / FLOAT_POWERS_OF_TEN[fraction.count];
    Some(if negative { -magnitude } else { magnitude })
}

/// The float of any decimal number with optional sign, fraction and exponent; `None` if it is too large.
#[inline(never)]
pub(crate) fn general_float(text: &[u8]) -> Option<f64> {
    fast_float2::parse::<f64, _>(text)
        .ok()
        .filter(|value| value.is_finite())
}

/// The signed integer of `digits`, whose text (without sign) is `text`; `None` if it does not fit.
#[inline]
pub(crate) fn signed(negative: bool, digits: Digits, text: &[u8]) -> Option<i64> {
    let magnitude = unsigned(digits, text)?;
    if negative {
        0_i64.checked_sub_unsigned(magnitude)
    } else {
        i64::try_from(magnitude).ok()
    }
}

/// The unsigned integer of `digits`, whose text is `text`; `None` if it does not fit.
#[inline]
pub(crate) fn unsigned(digits: Digits, text: &[u8]) -> Option<u64> {
    if digits.fits() {
        Some(digits.value)
    } else {
        many_digits(text)
    }
}

#[cold]
fn many_digits(text: &[u8]) -> Option<u64> {
    atoi_simd::parse_pos::<u64, true>(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digits_of(text: &str) -> Digits {
        digits(&Source::new(text, 0), 0)
    }

    #[test]
    fn runs_of_digits() {
        let check = |text: &str, value: u64, count: usize| {
            for padding in ["", ",", "          ", "/:;\u{80}üxx", "i,b=1234567"] {
                let text = format!("{text}{padding}");
                assert_eq!(digits_of(&text), Digits { value, count }, "{text}");
            }
        };
        check("", 0, 0);
        check("0", 0, 1);
        check("7", 7, 1);
        check("0042", 42, 4);
        check("1234567", 1_234_567, 7);
        check("12345678", 12_345_678, 8);
        check("123456789", 123_456_789, 9);
        check("1234567890123456", 1_234_567_890_123_456, 16);
        check("9999999999999999999", 9_999_999_999_999_999_999, 19);
        assert!(!digits_of("10000000000000000000").fits());
    }

    #[test]
    fn every_count_before_every_byte() {
        for count in 0..8 {
            for byte in 0..=u8::MAX {
                if byte.is_ascii_digit() {
                    continue;
                }
                let mut bytes = [b'9'; 8];
                bytes[count] = byte;
                let (value, counted) = digits_of_chunk(u64::from_le_bytes(bytes));
                assert_eq!((value, counted), (POWERS_OF_TEN[count] - 1, count), "{bytes:?}");
            }
        }
    }

    #[test]
    fn integers_at_the_edges() {
        let check = |negative: bool, text: &str, expected: Option<i64>| {
            assert_eq!(
                signed(negative, digits_of(text), text.as_bytes()),
                expected,
                "{text}"
            );
        };
        check(false, "9223372036854775807", Some(i64::MAX));
        check(false, "9223372036854775808", None);
        check(true, "9223372036854775808", Some(i64::MIN));
        check(true, "9223372036854775809", None);
        check(false, "99999999999999999999", None);
        check(
            false,
            "000000000000000000000000000000000000000000000042",
            Some(42),
        );
        check(true, "0", Some(0));
        let max = "18446744073709551615";
        assert_eq!(unsigned(digits_of(max), max.as_bytes()), Some(u64::MAX));
        let beyond = "18446744073709551616";
        assert_eq!(unsigned(digits_of(beyond), beyond.as_bytes()), None);
    }
}
