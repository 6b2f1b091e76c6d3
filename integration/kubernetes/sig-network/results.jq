# Out of ginkgo's report: what came of each test that was selected, and why it failed or was skipped.
def text: gsub("\\s+"; " ") | .[:300];
[.[] | {seconds: (.RunTime / 1e9), specs: (.SpecReports // [])}] as $suites
| {
    seconds: ($suites | map(.seconds) | add | round),
    tests: [
        $suites[].specs[]
        | (.Failure.Message // "") as $reason
        # Not selected.
        | select((.State == "skipped" and $reason == "") | not)
        # What sets the suite up counts only if it fails.
        | select(.LeafNodeType == "It" or (.State | IN("passed", "skipped") | not))
        | {
            name: ((.ContainerHierarchyTexts // []) + [if .LeafNodeText == "" then .LeafNodeType else .LeafNodeText end] | join(" ")),
            result: .State, seconds: (.RunTime / 1e8 | round / 10), reason: ($reason | text)
        }
    ] | sort_by(.name)
}
| .counts = (.tests | group_by(.result) | map({key: .[0].result, value: length}) | from_entries)
