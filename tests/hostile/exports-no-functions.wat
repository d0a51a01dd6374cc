;; It offers the interface without its functions.
;; refused: describe
(component
  
  (instance $none)
  (export "runbook:plugin/action@0.1.0" (instance $none))
  (@custom "runbook:manifest" "{SECTION}"))
