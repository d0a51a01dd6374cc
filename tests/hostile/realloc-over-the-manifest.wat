;; The room that it gives is where its manifest stands: that is its own affair.
;; well
(memory (export "memory") 2)
(func (export "realloc") (param i32 i32 i32 i32) (result i32)
  (i32.const 4096))
;; guest
