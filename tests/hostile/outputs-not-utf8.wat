;; Outputs that are no UTF-8.
;; step: utf-8
(data (i32.const 128) "\00\00\00\00\90\00\00\00\02\00\00\00\00\00\00\00\ff\fe")
(func (export "converge") (param i32 i32 i32 i32) (result i32)
  (i32.const 128))
