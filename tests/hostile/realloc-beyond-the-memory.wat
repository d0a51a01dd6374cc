;; The room that it gives lies beyond its memory.
;; step: beyond end of memory
(memory (export "memory") 2)
(func (export "realloc") (param i32 i32 i32 i32) (result i32)
  (i32.const 0x7ffffff0))
;; guest
