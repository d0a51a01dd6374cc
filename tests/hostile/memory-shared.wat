;; Memory for threads.
;; refused: threads
(memory (export "memory") 2 4 shared)
(func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 8192))
;; guest
