# Out of results.json: a line for each test, what is not well last, and the totals.
(.tests | sort_by(.result != "passed", .name)[] | "\(.result)  \(.seconds) s  \(.name)" + if .reason == "" then "" else "\n    \(.reason)" end),
"\(.counts.passed // 0) passed, \((.counts | to_entries | map(select(.key | IN("passed", "skipped") | not).value) | add) // 0) failed, \(.counts.skipped // 0) skipped; \(.seconds) s"
