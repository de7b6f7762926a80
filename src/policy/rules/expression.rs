//! A condition, ready to be judged: typed, so that nothing can be wrong with it but what a call lacks.

use super::names::{Facts, Field, Map, Value};

/// Why a condition could not be judged. It then counts as not met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The call lacks something that is named: a header, a tag, a bound of its answer.
    Absent,
    /// A sum beyond 64 bits.
    Overflow,
    DividedByZero,
}

impl Failure {
    pub fn name(self) -> &'static str {
        match self {
            Failure::Absent => "absent",
            Failure::Overflow => "overflow",
            Failure::DividedByZero => "divided_by_zero",
        }
    }
}

/// A condition.
#[derive(Debug)]
pub struct Expression {
    pub(super) root: Flag,
    /// The texts that it compares `request.class` with; not empty where it names that.
    pub(super) classes: Vec<String>,
}

impl Expression {
    /// Whether a call meets it.
    ///
    /// # Errors
    /// The call lacks something that it names. As in CEL, what `&&` and `||` do not need does not matter.
    pub fn holds(&self, facts: &dyn Facts) -> Result<bool, Failure> {
        self.root.judge(facts)
    }

    /// The classes that it goes by: at least an empty name where it goes by any.
    pub fn classes(&self) -> &[String] {
        &self.classes
    }
}

/// Something true or false.
#[derive(Debug)]
pub(super) enum Flag {
    Is(bool),
    Fact(Field),
    /// The call has this optional value.
    Given(Field),
    /// The call has this entry.
    Has(Map, Box<str>),
    Not(Box<Flag>),
    And(Box<[Flag; 2]>),
    Or(Box<[Flag; 2]>),
    If(Box<[Flag; 3]>),
    Same(Box<[Flag; 2]>),
    Numbers(Order, Box<[Number; 2]>),
    Texts(Order, Box<[Text; 2]>),
    NumberIn(Box<Number>, Box<[Number]>),
    TextIn(Box<Text>, Box<[Text]>),
    Starts(Box<[Text; 2]>),
    Ends(Box<[Text; 2]>),
    Contains(Box<[Text; 2]>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    Equal,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl Order {
    fn fits<T: Ord>(self, left: &T, right: &T) -> bool {
        match self {
            Order::Equal => left == right,
            Order::Less => left < right,
            Order::LessOrEqual => left <= right,
            Order::Greater => left > right,
            Order::GreaterOrEqual => left >= right,
        }
    }
}

#[derive(Debug)]
pub(super) enum Number {
    Is(i64),
    Fact(Field),
    /// Characters.
    Size(Box<Text>),
    Negative(Box<Number>),
    Sum(Arithmetic, Box<[Number; 2]>),
    If(Box<(Flag, [Number; 2])>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Arithmetic {
    Add,
    Subtract,
    Multiply,
    Divide,
    Remainder,
}

#[derive(Debug)]
pub(super) enum Text {
    Is(Box<str>),
    Fact(Field),
    Entry(Map, Box<str>),
    If(Box<(Flag, [Text; 2])>),
}

impl Flag {
    fn judge(&self, facts: &dyn Facts) -> Result<bool, Failure> {
        let texts = |pair: &[Text; 2], fits: fn(&str, &str) -> bool| {
            let [left, right] = pair;
            Ok(fits(left.read(facts)?, right.read(facts)?))
        };
        match self {
            Flag::Is(known) => Ok(*known),
            Flag::Fact(field) => match facts.value(*field) {
                Some(Value::Flag(flag)) => Ok(flag),
                _ => Err(Failure::Absent),
            },
            Flag::Given(field) => Ok(facts.value(*field).is_some()),
            Flag::Has(map, name) => Ok(facts.entry(*map, name).is_some()),
            Flag::Not(flag) => Ok(!flag.judge(facts)?),
            // What decides by itself decides, whatever the other side fails of (CEL, "Logical Operators").
            Flag::And(pair) => {
                let [left, right] = &**pair;
                match left.judge(facts) {
                    Ok(false) => Ok(false),
                    Ok(true) => right.judge(facts),
                    Err(failure) => {
                        if right.judge(facts)? {
                            Err(failure)
                        } else {
                            Ok(false)
                        }
                    }
                }
            }
            Flag::Or(pair) => {
                let [left, right] = &**pair;
                match left.judge(facts) {
                    Ok(true) => Ok(true),
                    Ok(false) => right.judge(facts),
                    Err(failure) => {
                        if right.judge(facts)? {
                            Ok(true)
                        } else {
                            Err(failure)
                        }
                    }
                }
            }
            Flag::If(three) => {
                let [condition, yes, no] = &**three;
                if condition.judge(facts)? { yes.judge(facts) } else { no.judge(facts) }
            }
            Flag::Same(pair) => {
                let [left, right] = &**pair;
                Ok(left.judge(facts)? == right.judge(facts)?)
            }
            Flag::Numbers(order, pair) => {
                let [left, right] = &**pair;
                Ok(order.fits(&left.read(facts)?, &right.read(facts)?))
            }
            Flag::Texts(order, pair) => {
                let [left, right] = &**pair;
                Ok(order.fits(&left.read(facts)?, &right.read(facts)?))
            }
            Flag::NumberIn(one, list) => {
                let one = one.read(facts)?;
                any(list, |other| Ok(other.read(facts)? == one))
            }
            Flag::TextIn(one, list) => {
                let one = one.read(facts)?;
                any(list, |other| Ok(other.read(facts)? == one))
            }
            Flag::Starts(pair) => texts(pair, |text, part| text.starts_with(part)),
            Flag::Ends(pair) => texts(pair, |text, part| text.ends_with(part)),
            Flag::Contains(pair) => texts(pair, |text, part| {
                // Linear whatever stands in them.
                memchr::memmem::find(text.as_bytes(), part.as_bytes()).is_some()
            }),
        }
    }
}

impl Number {
    fn read(&self, facts: &dyn Facts) -> Result<i64, Failure> {
        match self {
            Number::Is(known) => Ok(*known),
            Number::Fact(field) => match facts.value(*field) {
                Some(Value::Number(number)) => Ok(number),
                _ => Err(Failure::Absent),
            },
            Number::Size(text) => Ok(i64::try_from(text.read(facts)?.chars().count()).unwrap_or(i64::MAX)),
            Number::Negative(number) => number.read(facts)?.checked_neg().ok_or(Failure::Overflow),
            Number::Sum(how, pair) => {
                let [left, right] = &**pair;
                let (left, right) = (left.read(facts)?, right.read(facts)?);
                let done = match how {
                    Arithmetic::Add => left.checked_add(right),
                    Arithmetic::Subtract => left.checked_sub(right),
                    Arithmetic::Multiply => left.checked_mul(right),
                    Arithmetic::Divide | Arithmetic::Remainder if right == 0 => return Err(Failure::DividedByZero),
                    Arithmetic::Divide => left.checked_div(right),
                    Arithmetic::Remainder => left.checked_rem(right),
                };
                done.ok_or(Failure::Overflow)
            }
            Number::If(choice) => {
                let (condition, [yes, no]) = &**choice;
                if condition.judge(facts)? { yes.read(facts) } else { no.read(facts) }
            }
        }
    }
}

impl Text {
    fn read<'f>(&'f self, facts: &'f dyn Facts) -> Result<&'f str, Failure> {
        match self {
            Text::Is(known) => Ok(known),
            Text::Fact(field) => match facts.value(*field) {
                Some(Value::Text(text)) => Ok(text),
                _ => Err(Failure::Absent),
            },
            Text::Entry(map, name) => facts.entry(*map, name).ok_or(Failure::Absent),
            Text::If(choice) => {
                let (condition, [yes, no]) = &**choice;
                if condition.judge(facts)? { yes.read(facts) } else { no.read(facts) }
            }
        }
    }
}

/// A list is made whole before it is searched, so that what it cannot be made of fails first.
fn any<T>(list: &[T], same: impl Fn(&T) -> Result<bool, Failure>) -> Result<bool, Failure> {
    list.iter().try_fold(false, |found, one| Ok(same(one)? || found))
}
