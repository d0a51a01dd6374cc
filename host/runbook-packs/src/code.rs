//! Is it code that a compiler is done with in reasonable time and memory? Asked before it is compiled.

use wasmparser::{FunctionBody, Operator, Parser, Payload};

/// Bytes of one function, which a compiler takes as a whole. The largest ones of interpreters have a fifth of it.
const MAX_FUNCTION: usize = 1 << 20;

/// Functions of all modules. An interpreter with its libraries has some 50,000.
const MAX_FUNCTIONS: usize = 250_000;

/// Bytes of code of all modules.
const MAX_CODE: usize = 64 << 20;

/// Blocks in blocks: a compiler's time grows with the square of it. A `switch` of an interpreter has some hundred.
const MAX_DEPTH: usize = 5_000;

/// Why code is not compiled.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CodeError {
    /// A large function.
    #[error("it has a function of more than {} MiB of code", MAX_FUNCTION >> 20)]
    Function,
    /// Many functions.
    #[error("it has more than {MAX_FUNCTIONS} functions")]
    Functions,
    /// Much code.
    #[error("it has more than {} MiB of code", MAX_CODE >> 20)]
    Code,
    /// Deeply nested code.
    #[error("it has a function with blocks that are nested more than {MAX_DEPTH} deep")]
    Depth,
    /// Not what WebAssembly is.
    #[error("it is damaged, or newer than this version of runbook: {0}")]
    Malformed(String),
}

/// Looks at the code of a component.
///
/// # Errors
///
/// The first thing that is too much.
pub fn check_code(bytes: &[u8]) -> Result<(), CodeError> {
    let (mut functions, mut code) = (0usize, 0usize);
    for payload in Parser::new(0).parse_all(bytes) {
        match payload.map_err(malformed)? {
            Payload::CodeSectionStart { count, size, .. } => {
                functions = functions.saturating_add(count as usize);
                code = code.saturating_add(size as usize);
                if functions > MAX_FUNCTIONS {
                    return Err(CodeError::Functions);
                }
                if code > MAX_CODE {
                    return Err(CodeError::Code);
                }
            }
            Payload::CodeSectionEntry(body) => check_function(&body)?,
            _ => {}
        }
    }
    Ok(())
}

fn check_function(body: &FunctionBody<'_>) -> Result<(), CodeError> {
    let length = body.range().len();
    if length > MAX_FUNCTION {
        return Err(CodeError::Function);
    }
    // A block takes three bytes, its end included.
    if length / 3 < MAX_DEPTH {
        return Ok(());
    }
    let mut depth = 0usize;
    for operator in body.get_operators_reader().map_err(malformed)? {
        match operator.map_err(malformed)? {
            Operator::Block { .. } | Operator::Loop { .. } | Operator::If { .. } | Operator::TryTable { .. } => {
                depth += 1
            }
            Operator::End => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > MAX_DEPTH {
            return Err(CodeError::Depth);
        }
    }
    Ok(())
}

fn malformed(error: wasmparser::BinaryReaderError) -> CodeError {
    CodeError::Malformed(error.to_string())
}
