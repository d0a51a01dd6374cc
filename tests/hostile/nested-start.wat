;; A component within the component never ends starting.
;; refused: time
(component
  (component $inner
    (core module $m (func $start (loop $again (br $again))) (start $start))
    (core instance (instantiate $m)))
  (instance (instantiate $inner))
  (core module $m (memory (export "memory") 2)
    (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 0))
    (func (export "describe") (result i32) (i32.const 0))
    (func (export "converge") (param i32 i32 i32 i32) (result i32) (i32.const 0)))
  (core instance $i (instantiate $m))
  (import "runbook:base/types@0.1.0" (instance $types
    (type $error (variant (case "denied" string) (case "unknown" string) (case "not-found" string) (case "unreachable" string)
      (case "timed-out" string) (case "conflict" string) (case "invalid" string) (case "failed" string)))
    (export "call-error" (type (eq $error)))))
  (alias export $types "call-error" (type $error))
  (alias core export $i "memory" (core memory $memory))
  (alias core export $i "realloc" (core func $realloc))
  (func $describe (result string) (canon lift (core func $i "describe") (memory $memory) (realloc $realloc)))
  (func $converge (param "action" string) (param "inputs" string) (result (result string (error $error)))
    (canon lift (core func $i "converge") (memory $memory) (realloc $realloc)))
  (func $verify (param "action" string) (param "inputs" string) (result (result (list string) (error $error)))
    (canon lift (core func $i "converge") (memory $memory) (realloc $realloc)))
  (instance $action
    (export "describe" (func $describe)) (export "converge" (func $converge)) (export "verify" (func $verify)))
  (export "runbook:plugin/action@0.1.0" (instance $action))
  (@custom "runbook:manifest" "{SECTION}"))
