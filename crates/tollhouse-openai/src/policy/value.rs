//! The plain values that settings are written in, and what is allowed of them.
//!
//! A variable, a file's key and a setter say the same thing in three ways. Each is
//! brought into the form of a [`Value`], and one table says what is
//! [`Allowed`].

use std::borrow::Cow;
use std::fmt;
use std::num::NonZeroU64;
use std::time::Duration;

use tollhouse::{Accounting, Window};

use super::Limit;
use crate::wire::cost::ChargeRule;
pub(crate) use crate::wire::cost::MOST;
use crate::wire::time::decimal;

const AUTO: &str = "auto";
const UNLIMITED: &str = "unlimited";

/// A setting as it is written down.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    Whole(u64),
    Real(f64),
    Flag(bool),
    Text(Cow<'static, str>),
    /// What no setting is: a date, a list, a number below zero.
    Other(String),
}

impl Value {
    fn text(text: &'static str) -> Value {
        Value::Text(Cow::Borrowed(text))
    }

    fn is(&self, word: &str) -> bool {
        matches!(self, Value::Text(text) if text.eq_ignore_ascii_case(word))
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Whole(number) => number.fmt(f),
            Value::Real(number) => number.fmt(f),
            Value::Flag(flag) => flag.fmt(f),
            Value::Text(text) => write!(f, "{text:?}"),
            Value::Other(text) => f.write_str(text),
        }
    }
}

/// What may be written for a setting.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Allowed {
    /// A whole number.
    Whole(u64, u64),
    /// A number with or without a fraction.
    Real(f64, f64),
    /// What one of [`Limit`] is.
    Limit,
    /// As a whole number, or no limit.
    WholeOrUnlimited(u64, u64),
    /// As a number, or no limit.
    RealOrUnlimited(f64, f64),
    /// One of these.
    Words(&'static [&'static str]),
    /// One of these, or a whole number.
    WordsOrWhole(&'static [&'static str], u64, u64),
    Flag,
    /// Anything that is not empty.
    Name,
}

impl Allowed {
    pub(crate) fn allows(self, value: &Value) -> bool {
        match self {
            Allowed::Whole(least, most) => is_whole(value, least, most),
            Allowed::Real(least, most) => is_real(value, least, most),
            Allowed::Limit => value.is(AUTO) || value.is(UNLIMITED) || is_whole(value, 1, MOST),
            Allowed::WholeOrUnlimited(least, most) => {
                value.is(UNLIMITED) || is_whole(value, least, most)
            }
            Allowed::RealOrUnlimited(least, most) => {
                value.is(UNLIMITED) || is_real(value, least, most)
            }
            Allowed::Words(words) => words.iter().any(|word| value.is(word)),
            Allowed::WordsOrWhole(words, least, most) => {
                Allowed::Words(words).allows(value) || is_whole(value, least, most)
            }
            Allowed::Flag => matches!(value, Value::Flag(_)),
            Allowed::Name => {
                matches!(value, Value::Text(text) if !text.is_empty() && !text.contains(char::is_control))
            }
        }
    }

    /// A value as it is told of where it is not allowed. A number that is whole but for how
    /// it is written must show that, or it would be told that a whole number is meant.
    pub(crate) fn told(self, value: &Value) -> String {
        let may_be_real = matches!(self, Allowed::Real(..) | Allowed::RealOrUnlimited(..));
        match value {
            Value::Real(number) if !may_be_real => format!("{number:?}"),
            value => value.to_string(),
        }
    }

    /// A variable's text, as the value that it is meant for.
    pub(crate) fn parse(self, text: &str) -> Value {
        let is_whole = text.bytes().all(|byte| byte.is_ascii_digit());
        let whole = || text.parse().ok().filter(|_| is_whole).map(Value::Whole);
        // Neither signs, exponents, nor `inf`, `NaN`.
        let real = || decimal(text).filter(|(_, rest)| rest.is_empty());
        let number = whole().or_else(|| real().map(|(number, _)| Value::Real(number)));
        number.unwrap_or_else(|| match text {
            "true" => Value::Flag(true),
            "false" => Value::Flag(false),
            text => Value::Text(Cow::Owned(text.to_owned())),
        })
    }
}

fn is_whole(value: &Value, least: u64, most: u64) -> bool {
    matches!(value, Value::Whole(number) if (least..=most).contains(number))
}

fn is_real(value: &Value, least: f64, most: f64) -> bool {
    let number = match value {
        Value::Whole(number) => *number as f64,
        Value::Real(number) => *number,
        _ => return false,
    };
    (least..=most).contains(&number)
}

impl fmt::Display for Allowed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Allowed::Whole(least, most) => write!(f, "a whole number from {least} to {most}"),
            Allowed::Real(least, most) => write!(f, "a number from {least} to {most}"),
            Allowed::Limit => write!(f, "{}, auto or unlimited", Allowed::Whole(1, MOST)),
            Allowed::WholeOrUnlimited(least, most) => {
                write!(f, "{} or unlimited", Allowed::Whole(least, most))
            }
            Allowed::RealOrUnlimited(least, most) => {
                write!(f, "{} or unlimited", Allowed::Real(least, most))
            }
            Allowed::Words(words) => f.write_str(&words.join(" or ")),
            Allowed::WordsOrWhole(words, least, most) => {
                let (words, number) = (words.join(", "), Allowed::Whole(least, most));
                write!(f, "{words} or {number}")
            }
            Allowed::Flag => f.write_str("true or false"),
            Allowed::Name => f.write_str("a text that is not empty, on one line"),
        }
    }
}

/// What can be written as a [`Value`].
pub(crate) trait Setting: Sized {
    /// What an allowed value says.
    fn from_value(value: &Value) -> Option<Self>;

    /// As it is written; `None` where it is left out.
    fn to_value(&self) -> Option<Value>;
}

macro_rules! whole {
    ($($number:ty),+) => {$(
        impl Setting for $number {
            fn from_value(value: &Value) -> Option<Self> {
                match value {
                    Value::Whole(number) => <$number>::try_from(*number).ok(),
                    _ => None,
                }
            }

            fn to_value(&self) -> Option<Value> {
                Some(Value::Whole(u64::try_from(*self).unwrap_or(u64::MAX)))
            }
        }
    )+};
}

whole!(u32, u64, usize);

impl Setting for f64 {
    fn from_value(value: &Value) -> Option<Self> {
        match value {
            Value::Whole(number) => Some(*number as f64),
            Value::Real(number) => Some(*number),
            _ => None,
        }
    }

    fn to_value(&self) -> Option<Value> {
        Some(Value::Real(*self))
    }
}

/// In seconds.
impl Setting for Duration {
    fn from_value(value: &Value) -> Option<Self> {
        match value {
            Value::Whole(seconds) => Some(Duration::from_secs(*seconds)),
            value => Duration::try_from_secs_f64(f64::from_value(value)?).ok(),
        }
    }

    fn to_value(&self) -> Option<Value> {
        Some(match self.subsec_nanos() {
            0 => Value::Whole(self.as_secs()),
            _ => Value::Real(self.as_secs_f64()),
        })
    }
}

impl Setting for bool {
    fn from_value(value: &Value) -> Option<Self> {
        match value {
            Value::Flag(flag) => Some(*flag),
            _ => None,
        }
    }

    fn to_value(&self) -> Option<Value> {
        Some(Value::Flag(*self))
    }
}

impl Setting for String {
    fn from_value(value: &Value) -> Option<Self> {
        match value {
            Value::Text(text) => Some(text.clone().into_owned()),
            _ => None,
        }
    }

    fn to_value(&self) -> Option<Value> {
        Some(Value::Text(Cow::Owned(self.clone())))
    }
}

/// What is not there is not limited.
impl<T: Setting> Setting for Option<T> {
    fn from_value(value: &Value) -> Option<Self> {
        match value.is(UNLIMITED) {
            true => Some(None),
            false => T::from_value(value).map(Some),
        }
    }

    fn to_value(&self) -> Option<Value> {
        self.as_ref().and_then(T::to_value)
    }
}

impl Setting for Limit {
    fn from_value(value: &Value) -> Option<Self> {
        match value {
            Value::Whole(number) => NonZeroU64::new(*number).map(Limit::PerMinute),
            value if value.is(AUTO) => Some(Limit::Auto),
            value if value.is(UNLIMITED) => Some(Limit::Unlimited),
            _ => None,
        }
    }

    fn to_value(&self) -> Option<Value> {
        Some(match self {
            Limit::PerMinute(number) => Value::Whole(number.get()),
            Limit::Auto => Value::text(AUTO),
            Limit::Unlimited => Value::text(UNLIMITED),
        })
    }
}

/// A setting that is one of a few words.
macro_rules! words {
    ($kind:ty: $words:ident, $($word:literal = $variant:pat => $made:expr),+) => {
        pub(super) const $words: &[&str] = &[$($word),+];

        impl Setting for $kind {
            fn from_value(value: &Value) -> Option<Self> {
                $(if value.is($word) {
                    return Some($made);
                })+
                None
            }

            fn to_value(&self) -> Option<Value> {
                match self {
                    $($variant => Some(Value::text($word)),)+
                    _ => None,
                }
            }
        }
    };
}

words!(Accounting: ACCOUNTINGS,
    "as_requested" = Accounting::AsRequested => Accounting::AsRequested,
    "as_used" = Accounting::AsUsed => Accounting::AsUsed);

words!(Window: WINDOWS,
    "auto" = Window::Auto => Window::Auto,
    "on" = Window::On => Window::On,
    "off" = Window::Off => Window::Off);

pub(super) const CHARGE_RULES: &[&str] = &["safe", "openai"];

impl Setting for ChargeRule {
    fn from_value(value: &Value) -> Option<Self> {
        match value {
            Value::Whole(tokens) => Some(ChargeRule::Fixed(*tokens)),
            value if value.is("safe") => Some(ChargeRule::Safe),
            value if value.is("openai") => Some(ChargeRule::OpenAi),
            _ => None,
        }
    }

    fn to_value(&self) -> Option<Value> {
        Some(match self {
            ChargeRule::Safe => Value::text("safe"),
            ChargeRule::OpenAi => Value::text("openai"),
            ChargeRule::Fixed(tokens) => Value::Whole(*tokens),
        })
    }
}
