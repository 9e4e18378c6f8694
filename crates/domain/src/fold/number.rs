//! Sums without the errors of binary fractions: 0.1 + 0.2 is 0.3.

use serde_json::Number;

/// A decimal number: `mantissa` × 10^-`scale`.
#[derive(Clone, Copy)]
struct Decimal {
    mantissa: i128,
    scale: u32,
}

/// Digits of a mantissa that can be added without overflow.
const MAX_DIGITS: usize = 34;

impl Decimal {
    /// A number without an exponent and of not too many digits.
    fn parse(number: &Number) -> Option<Self> {
        let text = number.to_string();
        let (whole, fraction) = text.split_once('.').unwrap_or((&text, ""));
        if text.len() > MAX_DIGITS {
            return None;
        }
        Some(Self {
            mantissa: format!("{whole}{fraction}").parse().ok()?,
            scale: u32::try_from(fraction.len()).ok()?,
        })
    }

    fn at_scale(self, scale: u32) -> Option<i128> {
        let factor = 10_i128.checked_pow(scale.checked_sub(self.scale)?)?;
        self.mantissa.checked_mul(factor)
    }

    fn add(self, other: Self) -> Option<Self> {
        let scale = self.scale.max(other.scale);
        let mantissa = self.at_scale(scale)?.checked_add(other.at_scale(scale)?)?;
        Some(Self { mantissa, scale })
    }

    fn to_number(self) -> Option<Number> {
        let digits = self.mantissa.unsigned_abs().to_string();
        let scale = usize::try_from(self.scale).ok()?;
        let digits = format!("{digits:0>width$}", width = scale + 1);
        let (whole, fraction) = digits.split_at(digits.len() - scale);
        let fraction = fraction.trim_end_matches('0');
        let sign = if self.mantissa < 0 { "-" } else { "" };
        let text = match fraction {
            "" => format!("{sign}{whole}"),
            _ => format!("{sign}{whole}.{fraction}"),
        };
        serde_json::from_str(&text).ok()
    }
}

/// The sum, or `None` where no number can hold it.
pub(super) fn add(one: &Number, other: &Number) -> Option<Number> {
    let exact = match (Decimal::parse(one), Decimal::parse(other)) {
        (Some(one), Some(other)) => one.add(other).and_then(Decimal::to_number),
        _ => None,
    };
    exact.or_else(|| Number::from_f64(one.as_f64()? + other.as_f64()?))
}

/// Whether the first is less than the second.
pub(super) fn is_less(one: &Number, other: &Number) -> bool {
    match (one.as_i64(), other.as_i64()) {
        (Some(one), Some(other)) => one < other,
        _ => one.as_f64() < other.as_f64(),
    }
}
