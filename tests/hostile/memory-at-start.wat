;; It wants a gigabyte to begin with.
;; refused: memory: it wanted 1024 MiB, and 256 MiB is the most
(memory (export "memory") 16384)
(func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 8192))
;; guest
