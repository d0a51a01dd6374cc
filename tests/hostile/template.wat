(component $plugin
  (import "runbook:base/types@0.1.0" (instance $types
    (type $error (variant (case "denied" string) (case "unknown" string) (case "not-found" string) (case "unreachable" string)
      (case "timed-out" string) (case "conflict" string) (case "invalid" string) (case "failed" string)))
    (export "call-error" (type (eq $error)))))
  (alias export $types "call-error" (type $error))
  (import "runbook:plugin/run@0.1.0" (instance $run
    (alias outer $plugin $error (type $outer))
    (export "call-error" (type $error (eq $outer)))
    (type $levels (enum "debug" "info" "warn"))
    (export "level" (type $level (eq $levels)))
    (type $result (result (error $error)))
    (export "log" (func (param "level" $level) (param "message" string)))
    (export "progress" (func (param "message" string) (param "done" u64) (param "total" (option u64)) (param "unit" string)))
    (export "pause" (func (param "milliseconds" u32) (result $result)))))
  (import "runbook:files/trees@0.1.0" (instance $trees
    (alias outer $plugin $error (type $outer))
    (export "call-error" (type $error (eq $outer)))
    (export "tree" (type $tree (sub resource)))
    (type $result (result (list u8) (error $error)))
    (export "controller" (func (result (own $tree))))
    (export "[method]tree.read" (func (param "self" (borrow $tree)) (param "path" string) (param "limit" u64) (result $result)))))
  (alias export $trees "tree" (type $tree))

  ;; Memory and allocation stand apart, since what is imported needs them, too.
  (core module $Memory
    {MEMORY}
  )
  (core instance $memory (instantiate $Memory))
  (alias core export $memory "memory" (core memory $m))
  (alias core export $memory "realloc" (core func $realloc))

  (core func $log (canon lower (func $run "log") (memory $m) (realloc $realloc)))
  (core func $progress (canon lower (func $run "progress") (memory $m) (realloc $realloc)))
  (core func $pause (canon lower (func $run "pause") (memory $m) (realloc $realloc)))
  (core func $controller (canon lower (func $trees "controller")))
  (core func $read (canon lower (func $trees "[method]tree.read") (memory $m) (realloc $realloc)))
  (core func $drop (canon resource.drop $tree))
  (core instance $host
    (export "log" (func $log)) (export "progress" (func $progress)) (export "pause" (func $pause))
    (export "controller" (func $controller)) (export "read" (func $read)) (export "drop" (func $drop)))

  (core module $Guest
    (import "memory" "memory" (memory 1))
    (import "host" "log" (func $log (param $level i32) (param $text i32) (param $length i32)))
    (import "host" "progress" (func $progress (param i32 i32 i64 i32 i64 i32 i32)))
    (import "host" "pause" (func $pause (param $milliseconds i32) (param $answer i32)))
    (import "host" "controller" (func $controller (result i32)))
    (import "host" "read" (func $read (param $tree i32) (param $path i32) (param $length i32) (param $limit i64) (param $answer i32)))
    (import "host" "drop" (func $drop (param $tree i32)))
    {TABLE}
    ;; 16: what `describe` gives. 32: outputs `{}`. 64: nothing wrong. 80: a path. 4096: the manifest.
    (data (i32.const 16) "\00\10\00\00{LENGTH}")
    (data (i32.const 32) "\00\00\00\00\30\00\00\00\02\00\00\00\00\00\00\00{}")
    (data (i32.const 64) "\00\00\00\00\00\00\00\00\00\00\00\00")
    (data (i32.const 80) "/x")
    (data (i32.const 4096) "{MANIFEST}")
    {GUEST}
  )
  (core instance $guest (instantiate $Guest (with "memory" (instance $memory)) (with "host" (instance $host))))
  {MORE}

  (type $outputs (result string (error $error)))
  (type $wrong (result (list string) (error $error)))
  (func $describe (result string)
    (canon lift (core func $guest "describe") (memory $m) (realloc $realloc)))
  (func $converge (param "action" string) (param "inputs" string) (result $outputs)
    (canon lift (core func $guest "converge") (memory $m) (realloc $realloc) (post-return (core func $guest "post"))))
  (func $verify (param "action" string) (param "inputs" string) (result $wrong)
    (canon lift (core func $guest "verify") (memory $m) (realloc $realloc)))
  (instance $action
    (export "describe" (func $describe)) (export "converge" (func $converge)) (export "verify" (func $verify)))
  (export "runbook:plugin/action@0.1.0" (instance $action))
  (@custom "runbook:manifest" "{SECTION}")
)
