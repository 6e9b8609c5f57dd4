package attack

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"
)

// TestTheThreatModelNamesTestsThatExist: a guard whose test was renamed or removed
// would be one that nobody looks after.
func TestTheThreatModelNamesTestsThatExist(t *testing.T) {
	t.Parallel()
	_, file, _, _ := runtime.Caller(0)
	root := filepath.Join(filepath.Dir(file), "..", "..", "..")
	doc, err := os.ReadFile(filepath.Join(root, "deploy", "docs", "threat-model.md"))
	if err != nil {
		t.Fatal(err)
	}
	there := map[string]bool{}
	declared := regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)\w+)\(`)
	err = filepath.WalkDir(filepath.Join(root, "services"), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		source, err := os.ReadFile(path)
		for _, m := range declared.FindAllSubmatch(source, -1) {
			there[string(m[1])] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	name := regexp.MustCompile("`((?:Test|Fuzz)\\w+)`")
	named := name.FindAllStringSubmatch(string(doc), -1)
	if len(named) < 40 || len(there) < 200 {
		t.Fatalf("%d tests named, %d there: the test looks at the wrong files", len(named), len(there))
	}
	for _, m := range named {
		if !there[m[1]] {
			t.Errorf("threat-model.md names %s, which is no test", m[1])
		}
	}
	for n, line := range strings.Split(string(doc), "\n") {
		// A row without a test names a guard that nothing shows.
		if strings.HasPrefix(line, "| ") && !strings.HasPrefix(line, "| threat |") && !strings.HasPrefix(line, "| --- |") && !name.MatchString(line) {
			t.Errorf("threat-model.md, line %d: nothing shows that the guard holds", n+1)
		}
	}
}
