//! Texts cut into plain pieces and expressions, and the names that an expression uses, without running it.

use std::fmt::Write as _;
use std::ops::Range;

use minijinja::machinery::ast::{BinOpKind, CallArg, Expr};
use minijinja::machinery::{Span, parse_expr};

/// A piece of a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece<'t> {
    /// Characters as they are.
    Plain(&'t str),
    /// An expression, and the offset of its first byte in the text.
    Expr(&'t str, usize),
}

/// What is wrong with a text or an expression.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyntaxError {
    /// What is wrong.
    pub message: String,
    /// Where, in bytes of the text.
    pub range: Range<usize>,
    /// How to put it right.
    pub help: Option<String>,
}

/// Help for braces that were not meant as an expression.
const BRACES_HELP: &str =
    "`{{` begins an expression here; for the characters themselves write {{ \"{{\" }} and {{ \"}}\" }}";

/// Longest expression, in bytes. A chain of names is as deep a tree as it is long, and trees are walked on the stack.
const MAX_LENGTH: usize = 2000;

/// Cuts a text into its pieces.
///
/// # Errors
///
/// An expression has no end, or is empty.
pub fn split(text: &str) -> Result<Vec<Piece<'_>>, SyntaxError> {
    let mut pieces = Vec::new();
    let mut at = 0;
    while let Some(found) = text[at..].find("{{") {
        let open = at + found;
        if open > at {
            pieces.push(Piece::Plain(&text[at..open]));
        }
        let Some(close) = find_end(text, open + 2) else {
            return Err(SyntaxError {
                message: "an expression begins with `{{` and is not ended by `}}`".to_owned(),
                range: open..open + 2,
                help: Some(BRACES_HELP.to_owned()),
            });
        };
        if text[open + 2..close].trim().is_empty() {
            return Err(SyntaxError {
                message: "there is no expression between `{{` and `}}`".to_owned(),
                range: open..close + 2,
                help: Some(BRACES_HELP.to_owned()),
            });
        }
        pieces.push(Piece::Expr(&text[open + 2..close], open + 2));
        at = close + 2;
    }
    if at < text.len() {
        pieces.push(Piece::Plain(&text[at..]));
    }
    Ok(pieces)
}

/// Offset of the `}}` that ends the expression which begins at `start`: not inside of quotes or of other brackets.
fn find_end(text: &str, start: usize) -> Option<usize> {
    let bytes = text.as_bytes();
    let mut depth = 0usize;
    let mut quote = None;
    let mut i = start;
    while i < bytes.len() {
        let byte = bytes[i];
        match quote {
            Some(_) if byte == b'\\' => i += 1,
            Some(q) if byte == q => quote = None,
            Some(_) => {}
            None => match byte {
                b'"' | b'\'' => quote = Some(byte),
                b'{' | b'[' | b'(' => depth += 1,
                b'}' if depth == 0 => return (bytes.get(i + 1) == Some(&b'}')).then_some(i),
                b'}' | b']' | b')' => depth = depth.saturating_sub(1),
                _ => {}
            },
        }
        i += 1;
    }
    None
}

/// The expression of a text that is one whole `{{ ... }}`, and its offset.
pub fn whole(text: &str) -> Option<(&str, usize)> {
    let start = text.len() - text.trim_start().len();
    match split(text.trim()).ok()?.as_slice() {
        [Piece::Expr(expr, offset)] => Some((expr, offset + start)),
        _ => None,
    }
}

/// The expression of a condition, with or without braces, and its offset.
///
/// # Errors
///
/// Braces stand around parts of it only.
pub fn bare(text: &str) -> Result<(&str, usize), SyntaxError> {
    if let Some(found) = whole(text) {
        return Ok(found);
    }
    // A map literal may end in two braces; two opening ones outside of quotes mean a template.
    match split(text) {
        Ok(pieces) if pieces.iter().all(|p| matches!(p, Piece::Plain(_))) => Ok((text, 0)),
        _ => Err(SyntaxError {
            message: "a condition is one expression, not a text with expressions in it".to_owned(),
            range: 0..text.len(),
            help: Some("leave the braces out: `when = \"inputs.a and inputs.b\"`".to_owned()),
        }),
    }
}

/// Whether a text has an expression in it, or tries to.
pub fn is_template(text: &str) -> bool {
    text.contains("{{")
}

/// One step into a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Segment {
    /// `.name` or `["name"]`.
    Key(String),
    /// `[anything else]`.
    Dynamic,
}

/// A name that an expression uses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    /// The first name: "inputs", "steps", ...
    pub root: String,
    /// What follows.
    pub path: Vec<Segment>,
    /// Where, in bytes of the expression.
    pub range: Range<usize>,
    /// The value is only passed on: it is the result, or a part of a result that is put together.
    pub passed_on: bool,
}

impl Reference {
    /// The key at a place of the path.
    pub fn key(&self, index: usize) -> Option<&str> {
        match self.path.get(index) {
            Some(Segment::Key(key)) => Some(key),
            _ => None,
        }
    }

    /// As it could be written.
    pub fn display(&self) -> String {
        let mut out = self.root.clone();
        for segment in &self.path {
            match segment {
                Segment::Key(key) if crate::schema::read::is_id(key) => {
                    out.push('.');
                    out.push_str(key);
                }
                Segment::Key(key) => {
                    let _ = write!(out, "[{key:?}]");
                }
                Segment::Dynamic => out.push_str("[...]"),
            }
        }
        out
    }
}

/// A filter, test or function that an expression uses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Use {
    /// Its name.
    pub name: String,
    /// Where, in bytes of the expression.
    pub range: Range<usize>,
    /// The first argument, where it is a string.
    pub text: Option<String>,
}

/// What an expression uses.
#[derive(Debug, Clone, Default)]
pub struct Analysis {
    /// Names.
    pub references: Vec<Reference>,
    /// `x | NAME`.
    pub filters: Vec<Use>,
    /// `x is NAME`.
    pub tests: Vec<Use>,
    /// `NAME(...)`.
    pub functions: Vec<Use>,
    /// `x.NAME(...)`: there are none.
    pub methods: Vec<Use>,
}

/// Filters that hand their input on as it is.
const PASSING_FILTERS: [&str; 3] = ["default", "d", "join"];

/// Finds what an expression uses.
///
/// # Errors
///
/// It is no expression, or too long.
pub fn analyse(source: &str) -> Result<Analysis, SyntaxError> {
    if source.len() > MAX_LENGTH {
        return Err(SyntaxError {
            message: format!("this expression is longer than {MAX_LENGTH} bytes"),
            range: 0..source.len(),
            help: Some("put a part of it into `[vars]`".to_owned()),
        });
    }
    if minus_signs_in_a_row(source) > 8 {
        // The parser takes each of them on its stack, without a limit of its own.
        return Err(SyntaxError {
            message: "too many minus signs in a row".to_owned(),
            range: 0..source.len(),
            help: None,
        });
    }
    let expr = parse_expr(source).map_err(|error| {
        let range = error.range().filter(|r| r.end <= source.len()).unwrap_or(0..source.len());
        let trimmed = source.trim_start();
        let help = (trimmed.starts_with('.') || trimmed.starts_with('-') || trimmed.starts_with('%'))
            .then(|| BRACES_HELP.to_owned());
        SyntaxError { message: error.detail().unwrap_or("this is no expression").to_owned(), range, help }
    })?;
    let mut analysis = Analysis::default();
    walk(&expr, true, &mut analysis);
    Ok(analysis)
}

fn minus_signs_in_a_row(source: &str) -> usize {
    let (mut most, mut run, mut quote, mut escaped) = (0, 0, None, false);
    for c in source.chars() {
        match quote {
            Some(_) if escaped => escaped = false,
            Some(_) if c == '\\' => escaped = true,
            Some(q) if c == q => quote = None,
            Some(_) => {}
            None if c == '"' || c == '\'' => quote = Some(c),
            None if c == '-' => run += 1,
            None if c.is_whitespace() => continue,
            None => run = 0,
        }
        if quote.is_some() {
            run = 0;
        }
        most = most.max(run);
    }
    most
}

fn range_of(span: Span) -> Range<usize> {
    span.start_offset as usize..span.end_offset as usize
}

/// A chain such as `a.b["c"]`: its first name with its place, and what follows.
fn chain(expr: &Expr<'_>) -> Option<(String, Range<usize>, Vec<Segment>)> {
    match expr {
        Expr::Var(var) => Some((var.id.to_owned(), range_of(var.span()), Vec::new())),
        Expr::GetAttr(attr) => {
            let (root, at, mut path) = chain(&attr.expr)?;
            path.push(Segment::Key(attr.name.to_owned()));
            Some((root, at, path))
        }
        Expr::GetItem(item) => {
            let (root, at, mut path) = chain(&item.expr)?;
            path.push(match text_of(&item.subscript_expr) {
                Some(key) => Segment::Key(key),
                None => Segment::Dynamic,
            });
            Some((root, at, path))
        }
        _ => None,
    }
}

fn text_of(expr: &Expr<'_>) -> Option<String> {
    match expr {
        Expr::Const(constant) => constant.value.as_str().map(str::to_owned),
        _ => None,
    }
}

/// The subscripts of a chain are expressions of their own.
fn walk_subscripts(expr: &Expr<'_>, out: &mut Analysis) {
    match expr {
        Expr::GetAttr(attr) => walk_subscripts(&attr.expr, out),
        Expr::GetItem(item) => {
            walk_subscripts(&item.expr, out);
            walk(&item.subscript_expr, false, out);
        }
        _ => {}
    }
}

fn walk_args(args: &[CallArg<'_>], passed_on: bool, out: &mut Analysis) {
    for arg in args {
        let (CallArg::Pos(e) | CallArg::Kwarg(_, e) | CallArg::PosSplat(e) | CallArg::KwargSplat(e)) = arg;
        walk(e, passed_on, out);
    }
}

fn first_text(args: &[CallArg<'_>]) -> Option<String> {
    match args.first() {
        Some(CallArg::Pos(e)) => text_of(e),
        _ => None,
    }
}

fn walk(expr: &Expr<'_>, passed_on: bool, out: &mut Analysis) {
    if let Some((root, at, path)) = chain(expr) {
        // The tree places an attribute at its dot.
        let range = at.start..range_of(expr.span()).end.max(at.end);
        out.references.push(Reference { root, path, range, passed_on });
        walk_subscripts(expr, out);
        return;
    }
    match expr {
        Expr::Var(_) | Expr::Const(_) => {}
        Expr::GetAttr(attr) => walk(&attr.expr, false, out),
        Expr::GetItem(item) => {
            walk(&item.expr, false, out);
            walk(&item.subscript_expr, false, out);
        }
        Expr::Slice(slice) => {
            walk(&slice.expr, false, out);
            for part in [&slice.start, &slice.stop, &slice.step].into_iter().flatten() {
                walk(part, false, out);
            }
        }
        Expr::UnaryOp(unary) => walk(&unary.expr, false, out),
        Expr::BinOp(binary) => {
            let puts_together = passed_on && matches!(binary.op, BinOpKind::Concat | BinOpKind::Add);
            walk(&binary.left, puts_together, out);
            walk(&binary.right, puts_together, out);
        }
        Expr::Compare(compare) => {
            walk(&compare.expr, false, out);
            for op in &compare.ops {
                walk(&op.expr, false, out);
            }
        }
        Expr::IfExpr(choice) => {
            walk(&choice.test_expr, false, out);
            walk(&choice.true_expr, passed_on, out);
            if let Some(other) = &choice.false_expr {
                walk(other, passed_on, out);
            }
        }
        Expr::Filter(filter) => {
            out.filters.push(Use {
                name: filter.name.to_owned(),
                range: range_of(filter.span()),
                text: first_text(&filter.args),
            });
            let passes = passed_on && PASSING_FILTERS.contains(&filter.name);
            if let Some(input) = &filter.expr {
                walk(input, passes, out);
            }
            walk_args(&filter.args, passes, out);
        }
        Expr::Test(test) => {
            out.tests.push(Use { name: test.name.to_owned(), range: range_of(test.span()), text: None });
            walk(&test.expr, false, out);
            walk_args(&test.args, false, out);
        }
        Expr::Call(call) => {
            let range = range_of(call.span());
            let text = first_text(&call.args);
            match &call.expr {
                Expr::Var(var) => out.functions.push(Use { name: var.id.to_owned(), range, text }),
                Expr::GetAttr(attr) => {
                    out.methods.push(Use { name: attr.name.to_owned(), range, text });
                    walk(&attr.expr, false, out);
                }
                other => {
                    out.methods.push(Use { name: "(...)".to_owned(), range, text });
                    walk(other, false, out);
                }
            }
            walk_args(&call.args, false, out);
        }
        Expr::List(list) => list.items.iter().for_each(|e| walk(e, passed_on, out)),
        Expr::Tuple(tuple) => tuple.items.iter().for_each(|e| walk(e, passed_on, out)),
        Expr::Map(map) => {
            map.keys.iter().for_each(|e| walk(e, false, out));
            map.values.iter().for_each(|e| walk(e, passed_on, out));
        }
    }
}
