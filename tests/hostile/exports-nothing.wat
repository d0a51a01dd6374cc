;; It offers nothing.
;; refused: it does not export `runbook:plugin/action@0.1.0`
(component
  
  
  (@custom "runbook:manifest" "{SECTION}"))
