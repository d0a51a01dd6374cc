;; Addresses of 64 bits.
;; refused: memory64
(memory (export "memory") i64 1)
(func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 8192))
;; guest
