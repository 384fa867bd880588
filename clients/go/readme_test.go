package tokenbroker

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var program = regexp.MustCompile("(?s)```go\n(package main.*?)```")

// A reader's first ten lines must work as they are printed.
func TestProgramOfTheReadmePrintsAMaskedToken(t *testing.T) {
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	found := program.FindSubmatch(readme)
	if found == nil {
		t.Fatal("there is none")
	}
	target := (&fakeBroker{}).listen(t, loopback)
	source := strings.ReplaceAll(string(found[1]), "127.0.0.1:50051", target)
	path := filepath.Join(t.TempDir(), "main.go")
	write(t, path, []byte(source))
	said, err := exec.CommandContext(t.Context(), "go", "run", path).CombinedOutput()
	if err != nil || string(said) != "********0000 <nil>\n" {
		t.Errorf("%q, %v", said, err)
	}
}
