//! From the text of a condition to what calls are judged by, or everything that is wrong with it.

use cel::common::ast::{CallExpr, Expr, LiteralValue, SourceInfo, operators};
use cel::{IdedExpr, Program};

use super::expression::{Arithmetic, Expression, Flag, Number, Order, Text};
use super::names::{Field, Map, Type, is_secret};

/// Longest text of a condition.
pub const MOST_BYTES: usize = 4096;
/// Most parts of a condition, and how deep they may be one in another: bounds of the time that it takes.
const MOST_PARTS: usize = 256;
const DEEPEST: usize = 64;
/// Most brackets in one another and most operators of a text that is read at all, and the stack that reading may take.
const MOST_BRACKETS: usize = 32;
const MOST_SIGNS: usize = 1024;
const STACK: usize = 64 << 20;
/// Most mistakes that are told of one condition.
const MOST_MISTAKES: usize = 8;

/// What is wrong with a condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// Line and column in the condition, from 1.
    pub place: (usize, usize),
    pub message: String,
}

impl Expression {
    /// Reads a condition.
    ///
    /// # Errors
    /// Everything that is wrong with it; never empty.
    pub fn compile(source: &str) -> Result<Expression, Vec<Mistake>> {
        let whole = |message: String| vec![Mistake { place: (1, 1), message }];
        if source.len() > MOST_BYTES {
            return Err(whole(format!("longer than {MOST_BYTES} bytes: make several rules of it")));
        }
        if source.trim().is_empty() {
            return Err(whole("an empty condition: leave `when` out for every call".to_owned()));
        }
        bounded(source).map_err(|message| whole(message.to_owned()))?;
        // The grammar's reader is not ours, and goes down with its text: it has a stack of its own, and what it cannot
        // cope with ends a thread and not a reload.
        let text = source.to_owned();
        let reader = std::thread::Builder::new().stack_size(STACK).spawn(move || read(&text));
        let read = reader.ok().and_then(|reader| reader.join().ok());
        read.unwrap_or_else(|| Err(whole("this cannot be read: write it in another way".to_owned())))
    }
}

/// Whether a text is nested and knotted no more than is worth reading. What stands in quotes counts too.
fn bounded(source: &str) -> Result<(), &'static str> {
    let (mut depth, mut signs) = (0usize, 0usize);
    for c in source.chars() {
        match c {
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => depth = depth.saturating_sub(1),
            '+' | '-' | '*' | '/' | '%' | '<' | '>' | '=' | '!' | '?' | '.' | '&' | '|' => signs += 1,
            _ => {}
        }
        if depth > MOST_BRACKETS {
            return Err("more than 32 brackets in one another: make several rules of it");
        }
    }
    if signs > MOST_SIGNS {
        return Err("more than 1024 operators: make several rules of it");
    }
    Ok(())
}

fn read(source: &str) -> Result<Expression, Vec<Mistake>> {
    let whole = |message: &str| vec![Mistake { place: (1, 1), message: message.to_owned() }];
    let program = Program::compile(source).map_err(|errors| {
        let told = errors.errors.iter().take(MOST_MISTAKES).map(|error| Mistake {
            place: (usize::try_from(error.pos.0).unwrap_or(1), usize::try_from(error.pos.1).unwrap_or(1)),
            message: crate::wire::json::clip(error.msg.lines().next().unwrap_or_default(), 200).to_owned(),
        });
        let told: Vec<Mistake> = told.collect();
        if told.is_empty() { whole("this is no expression") } else { told }
    })?;
    let mut reader =
        Reader { source, info: program.source_info(), mistakes: Vec::new(), classes: Vec::new(), parts: 0, depth: 0 };
    match reader.flag(program.expression()) {
        Some(root) if reader.mistakes.is_empty() => Ok(Expression { root, classes: reader.classes }),
        _ if reader.mistakes.is_empty() => Err(whole("this is no condition")),
        _ => Err(reader.mistakes),
    }
}

/// Part of a condition, by its type.
enum Part {
    Flag(Flag),
    Number(Number),
    Text(Text),
}

impl Part {
    fn kind(&self) -> Type {
        match self {
            Part::Flag(_) => Type::Flag,
            Part::Number(_) => Type::Number,
            Part::Text(_) => Type::Text,
        }
    }
}

struct Reader<'s> {
    source: &'s str,
    info: &'s SourceInfo,
    mistakes: Vec<Mistake>,
    classes: Vec<String>,
    parts: usize,
    depth: usize,
}

/// Nothing: what is wrong has been noted.
impl Reader<'_> {
    fn flag(&mut self, expr: &IdedExpr) -> Option<Flag> {
        match self.part(expr)? {
            Part::Flag(flag) => Some(flag),
            other => self.wrong(root(expr), format!("expected {}, found {}", Type::Flag.name(), other.kind().name())),
        }
    }

    fn number(&mut self, expr: &IdedExpr) -> Option<Number> {
        match self.part(expr)? {
            Part::Number(number) => Some(number),
            other => self.wrong(root(expr), format!("expected {}, found {}", Type::Number.name(), other.kind().name())),
        }
    }

    fn text(&mut self, expr: &IdedExpr) -> Option<Text> {
        match self.part(expr)? {
            Part::Text(text) => Some(text),
            other => self.wrong(root(expr), format!("expected {}, found {}", Type::Text.name(), other.kind().name())),
        }
    }

    fn part(&mut self, expr: &IdedExpr) -> Option<Part> {
        self.parts += 1;
        if self.parts > MOST_PARTS || self.depth >= DEEPEST {
            if !self.mistakes.iter().any(|mistake| mistake.message.contains("too much")) {
                let message = "too much for one condition (256 parts, 64 deep): make several rules of it";
                return self.wrong(expr.id, message.to_owned());
            }
            return None;
        }
        self.depth += 1;
        let part = self.inner(expr);
        self.depth -= 1;
        part
    }

    fn inner(&mut self, expr: &IdedExpr) -> Option<Part> {
        match &expr.expr {
            Expr::Literal(literal) => self.literal(expr.id, literal),
            Expr::Ident(_) => self.named(expr),
            Expr::Select(select) if select.test => self.presence(expr.id, &select.operand, &select.field),
            Expr::Select(_) => self.named(expr),
            Expr::Call(call) => self.call(expr, call),
            Expr::List(_) => self.wrong(expr.id, "a list can only stand after `in`".to_owned()),
            Expr::Comprehension(_) => {
                self.wrong(expr.id, "there are no loops in conditions: write the cases with `||`".to_owned())
            }
            Expr::Map(_) | Expr::Struct(_) | Expr::Unspecified => {
                self.wrong(expr.id, "this has no meaning in a condition".to_owned())
            }
        }
    }

    fn literal(&mut self, id: u64, literal: &LiteralValue) -> Option<Part> {
        match literal {
            LiteralValue::Boolean(flag) => Some(Part::Flag(Flag::Is(*flag.inner()))),
            LiteralValue::Int(number) => Some(Part::Number(Number::Is(*number.inner()))),
            LiteralValue::String(text) => Some(Part::Text(Text::Is(text.inner().into()))),
            LiteralValue::Double(_) | LiteralValue::UInt(_) => self.wrong(id, "write a whole number: 400".to_owned()),
            LiteralValue::Bytes(_) | LiteralValue::Null => {
                self.wrong(id, "write a number, a text in quotes, true or false".to_owned())
            }
        }
    }

    /// A name, with dots.
    fn named(&mut self, expr: &IdedExpr) -> Option<Part> {
        let Some(path) = path(expr) else {
            return self.wrong(expr.id, "a name is expected before the dot".to_owned());
        };
        if let Some(field) = Field::ALL.iter().copied().find(|field| field.path() == path) {
            return Some(self.fact(field));
        }
        let entry = Map::ALL.into_iter().find_map(|map| Some((map, path.strip_prefix(map.path())?.strip_prefix('.')?)));
        if let Some((map, name)) = entry {
            if name.contains('.') {
                let map = map.path();
                return self.wrong(root(expr), format!("an entry has no parts: write {map}[\"{name}\"]"));
            }
            return self.entry(expr.id, map, name).map(|name| Part::Text(Text::Entry(map, name)));
        }
        if let Some(map) = Map::ALL.into_iter().find(|map| map.path() == path) {
            let path = map.path();
            let message = format!("`{path}` has entries: write {path}[\"name\"], or \"name\" in {path}");
            return self.wrong(root(expr), message);
        }
        let paths = || Field::ALL.iter().map(|field| field.path()).chain(Map::ALL.map(Map::path));
        let close = paths()
            .map(|known| (strsim::damerau_levenshtein(&path, known), known))
            .filter(|(distance, known)| *distance <= known.len().max(path.len()) / 3)
            .min();
        let hint = match close {
            Some((_, known)) => format!(" Did you mean `{known}`?"),
            None => format!(" Known are: {}.", paths().collect::<Vec<_>>().join(", ")),
        };
        self.wrong(root(expr), format!("there is no `{path}`.{hint}"))
    }

    fn fact(&mut self, field: Field) -> Part {
        if field == Field::Class && self.classes.is_empty() {
            self.classes.push(String::new());
        }
        match field.kind() {
            Type::Flag => Part::Flag(Flag::Fact(field)),
            Type::Number => Part::Number(Number::Fact(field)),
            Type::Text => Part::Text(Text::Fact(field)),
        }
    }

    /// The name of an entry, as it is looked for.
    fn entry(&mut self, id: u64, map: Map, name: &str) -> Option<Box<str>> {
        if map != Map::Headers {
            return Some(name.into());
        }
        if is_secret(name) {
            return self.wrong(id, format!("the header `{name}` may hold a credential: rules do not see it"));
        }
        let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        if name.is_empty() || !name.bytes().all(token) {
            return self.wrong(id, format!("`{name}` is no header's name"));
        }
        // Names of headers mean the same in capitals (RFC 9110 section 5.1).
        Some(name.to_ascii_lowercase().into())
    }

    /// `has(...)`.
    fn presence(&mut self, id: u64, operand: &IdedExpr, field: &str) -> Option<Part> {
        let outer = path(operand);
        if let Some(map) = Map::ALL.into_iter().find(|map| outer.as_deref() == Some(map.path())) {
            return self.entry(id, map, field).map(|name| Part::Flag(Flag::Has(map, name)));
        }
        let path = outer.map(|outer| format!("{outer}.{field}"));
        let found = Field::ALL.iter().copied().find(|known| path.as_deref() == Some(known.path()));
        match found {
            Some(field) if field.is_optional() => Some(Part::Flag(Flag::Given(field))),
            Some(_) => Some(Part::Flag(Flag::Is(true))),
            None => self.wrong(id, "only `has(tags.x)`, `has(headers.x)` and the like have a meaning".to_owned()),
        }
    }

    fn call(&mut self, expr: &IdedExpr, call: &CallExpr) -> Option<Part> {
        let arguments: Vec<&IdedExpr> = call.target.iter().map(|target| &**target).chain(&call.args).collect();
        match (call.func_name.as_str(), arguments.as_slice()) {
            (operators::LOGICAL_NOT, [one]) => Some(Part::Flag(Flag::Not(Box::new(self.flag(one)?)))),
            (operators::LOGICAL_AND, [left, right]) => {
                let pair = both(self.flag(left), self.flag(right))?;
                Some(Part::Flag(Flag::And(Box::new(pair))))
            }
            (operators::LOGICAL_OR, [left, right]) => {
                let pair = both(self.flag(left), self.flag(right))?;
                Some(Part::Flag(Flag::Or(Box::new(pair))))
            }
            (operators::CONDITIONAL, [condition, yes, no]) => self.choice(expr.id, condition, yes, no),
            (operators::EQUALS, [left, right]) => self.compared(expr.id, Order::Equal, left, right).map(Part::Flag),
            (operators::NOT_EQUALS, [left, right]) => {
                let same = self.compared(expr.id, Order::Equal, left, right)?;
                Some(Part::Flag(Flag::Not(Box::new(same))))
            }
            (operators::LESS, [left, right]) => self.compared(expr.id, Order::Less, left, right).map(Part::Flag),
            (operators::LESS_EQUALS, [left, right]) => {
                self.compared(expr.id, Order::LessOrEqual, left, right).map(Part::Flag)
            }
            (operators::GREATER, [left, right]) => self.compared(expr.id, Order::Greater, left, right).map(Part::Flag),
            (operators::GREATER_EQUALS, [left, right]) => {
                self.compared(expr.id, Order::GreaterOrEqual, left, right).map(Part::Flag)
            }
            (operators::IN, [one, among]) => self.among(expr.id, one, among).map(Part::Flag),
            (operators::INDEX, [map, name]) => self.indexed(map, name),
            (operators::NEGATE, [one]) => Some(Part::Number(Number::Negative(Box::new(self.number(one)?)))),
            (operators::ADD, [left, right]) => self.sum(Arithmetic::Add, left, right),
            (operators::SUBSTRACT, [left, right]) => self.sum(Arithmetic::Subtract, left, right),
            (operators::MULTIPLY, [left, right]) => self.sum(Arithmetic::Multiply, left, right),
            (operators::DIVIDE, [left, right]) => self.sum(Arithmetic::Divide, left, right),
            (operators::MODULO, [left, right]) => self.sum(Arithmetic::Remainder, left, right),
            ("size", [one]) => Some(Part::Number(Number::Size(Box::new(self.text(one)?)))),
            ("startsWith", [text, part]) if call.target.is_some() => {
                Some(Part::Flag(Flag::Starts(Box::new(both(self.text(text), self.text(part))?))))
            }
            ("endsWith", [text, part]) if call.target.is_some() => {
                Some(Part::Flag(Flag::Ends(Box::new(both(self.text(text), self.text(part))?))))
            }
            ("contains", [text, part]) if call.target.is_some() => {
                Some(Part::Flag(Flag::Contains(Box::new(both(self.text(text), self.text(part))?))))
            }
            (name, _) => {
                let known = "`startsWith`, `endsWith`, `contains` of a text, `size` and `has`";
                let name = name.trim_matches('_');
                self.wrong(expr.id, format!("`{name}` cannot be used like this in a condition: there are {known}"))
            }
        }
    }

    fn choice(&mut self, id: u64, condition: &IdedExpr, yes: &IdedExpr, no: &IdedExpr) -> Option<Part> {
        let (condition, yes, no) = (self.flag(condition), self.part(yes), self.part(no));
        match (condition?, yes?, no?) {
            (condition, Part::Flag(yes), Part::Flag(no)) => Some(Part::Flag(Flag::If(Box::new([condition, yes, no])))),
            (condition, Part::Number(yes), Part::Number(no)) => {
                Some(Part::Number(Number::If(Box::new((condition, [yes, no])))))
            }
            (condition, Part::Text(yes), Part::Text(no)) => {
                Some(Part::Text(Text::If(Box::new((condition, [yes, no])))))
            }
            (_, yes, no) => {
                let (yes, no) = (yes.kind().name(), no.kind().name());
                self.wrong(id, format!("both sides of `:` must be of one kind: one is {yes}, the other {no}"))
            }
        }
    }

    fn compared(&mut self, id: u64, order: Order, left: &IdedExpr, right: &IdedExpr) -> Option<Flag> {
        let (left, right) = (self.part(left), self.part(right));
        match (left?, right?) {
            (Part::Number(left), Part::Number(right)) => Some(Flag::Numbers(order, Box::new([left, right]))),
            (Part::Text(left), Part::Text(right)) => {
                self.goes_by(&left, &right);
                self.goes_by(&right, &left);
                Some(Flag::Texts(order, Box::new([left, right])))
            }
            (Part::Flag(left), Part::Flag(right)) if order == Order::Equal => Some(Flag::Same(Box::new([left, right]))),
            (left, right) => {
                let (left, right) = (left.kind().name(), right.kind().name());
                self.wrong(id, format!("{left} cannot be compared with {right} like this"))
            }
        }
    }

    fn among(&mut self, id: u64, one: &IdedExpr, among: &IdedExpr) -> Option<Flag> {
        let outer = path(among);
        if let Some(map) = Map::ALL.into_iter().find(|map| outer.as_deref() == Some(map.path())) {
            return match &one.expr {
                Expr::Literal(LiteralValue::String(name)) => {
                    self.entry(one.id, map, name.inner()).map(|name| Flag::Has(map, name))
                }
                _ => self.wrong(root(one), "write the name in quotes".to_owned()),
            };
        }
        let Expr::List(list) = &among.expr else {
            return self
                .wrong(id, "after `in` stands a list, such as [\"a\", \"b\"], or tags, key.tags, headers".to_owned());
        };
        match self.part(one)? {
            Part::Text(one) => {
                let list: Vec<_> = list.elements.iter().map(|other| self.text(other)).collect();
                let list: Box<[Text]> = list.into_iter().collect::<Option<_>>()?;
                list.iter().for_each(|other| self.goes_by(&one, other));
                Some(Flag::TextIn(Box::new(one), list))
            }
            Part::Number(one) => {
                let list: Vec<_> = list.elements.iter().map(|other| self.number(other)).collect();
                Some(Flag::NumberIn(Box::new(one), list.into_iter().collect::<Option<_>>()?))
            }
            Part::Flag(_) => self.wrong(one.id, "only texts and numbers are looked for in lists".to_owned()),
        }
    }

    /// Remembers the name that a class is compared with.
    fn goes_by(&mut self, one: &Text, other: &Text) {
        if let (Text::Fact(Field::Class), Text::Is(name)) = (one, other) {
            self.classes.push(name.to_string());
        }
    }

    fn indexed(&mut self, map: &IdedExpr, name: &IdedExpr) -> Option<Part> {
        let outer = path(map);
        let Some(found) = Map::ALL.into_iter().find(|map| outer.as_deref() == Some(map.path())) else {
            return self.wrong(map.id, "only tags, key.tags and headers have entries".to_owned());
        };
        match &name.expr {
            Expr::Literal(LiteralValue::String(name)) => {
                let name = self.entry(map.id, found, name.inner())?;
                Some(Part::Text(Text::Entry(found, name)))
            }
            _ => self.wrong(root(name), "write the name in quotes".to_owned()),
        }
    }

    fn sum(&mut self, how: Arithmetic, left: &IdedExpr, right: &IdedExpr) -> Option<Part> {
        let pair = both(self.number(left), self.number(right))?;
        Some(Part::Number(Number::Sum(how, Box::new(pair))))
    }

    fn wrong<T>(&mut self, id: u64, message: String) -> Option<T> {
        let offset = self.info.offset_for(id).map_or(0, |(start, _)| start as usize);
        let before = self.source.get(..offset).unwrap_or_default();
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        if self.mistakes.len() < MOST_MISTAKES {
            self.mistakes.push(Mistake { place: (line, column), message });
        }
        None
    }
}

fn both<T>(left: Option<T>, right: Option<T>) -> Option<[T; 2]> {
    Some([left?, right?])
}

/// Where a name with dots begins.
fn root(expr: &IdedExpr) -> u64 {
    match &expr.expr {
        Expr::Select(select) => root(&select.operand),
        _ => expr.id,
    }
}

/// `a.b.c`, of a name with dots.
fn path(expr: &IdedExpr) -> Option<String> {
    match &expr.expr {
        Expr::Ident(name) => Some(name.clone()),
        Expr::Select(select) if !select.test => {
            let mut path = path(&select.operand)?;
            path.push('.');
            path.push_str(&select.field);
            Some(path)
        }
        _ => None,
    }
}
