;; Its `describe` is no text.
;; refused: expected `string` found `u32`
(component
  (core module $m (func (export "f") (result i32) (i32.const 0)))
  (core instance $i (instantiate $m))
  (func $f (result u32) (canon lift (core func $i "f")))
  (instance $action (export "describe" (func $f)) (export "converge" (func $f)) (export "verify" (func $f)))
  (export "runbook:plugin/action@0.1.0" (instance $action))
  (@custom "runbook:manifest" "{SECTION}"))
