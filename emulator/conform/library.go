package conform

import (
	"embed"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
)

// Library is a number of rules, in the order of their files.
type Library struct {
	Rules []Rule

	usual Script // the setup operational, for cards that are made for rules
}

// usual is the name of the setup that puts a new card into use, for rules that apply to
// such cards. After it the card is as inUse says.
const usual = "operational"

// RuleError says where a rule file has something wrong.
type RuleError struct {
	File string
	Line int // from 1
	Err  error
}

// Error is file, line and what is wrong.
func (e *RuleError) Error() string { return fmt.Sprintf("%s:%d: %v", e.File, e.Line, e.Err) }

// Unwrap is what is wrong.
func (e *RuleError) Unwrap() error { return e.Err }

//go:embed rules/*.txt
var embedded embed.FS

// Rules is the library that comes with this package, and the rules of further folders
// behind it, which may use its setups. Errors are those of [LoadRules].
func Rules(further ...fs.FS) (Library, error) {
	sub, err := fs.Sub(embedded, "rules")
	if err != nil {
		return Library{}, err
	}
	return LoadRules(append([]fs.FS{sub}, further...)...)
}

// RulesIn is Rules with folders named by their paths. Errors: also that one has no rules.
func RulesIn(dirs ...string) (Library, error) {
	var folders []fs.FS
	for _, dir := range dirs {
		folder := os.DirFS(dir)
		if files, err := fs.Glob(folder, "*.txt"); err != nil || len(files) == 0 {
			return Library{}, fmt.Errorf("no files *.txt in %s", dir)
		}
		folders = append(folders, folder)
	}
	return Rules(folders...)
}

// LoadRules reads the rules of all files NAME.txt of folders. Setups of one are known
// in all. Errors: what is wrong with the files, each a *RuleError, joined; those of
// the folders.
func LoadRules(folders ...fs.FS) (Library, error) {
	var b ruleBook
	for _, folder := range folders {
		names, err := fs.Glob(folder, "*.txt")
		if err != nil {
			return Library{}, err
		}
		for _, name := range names {
			text, err := readBounded(folder, name)
			if err != nil {
				return Library{}, err
			}
			b.read(path.Base(name), text)
		}
	}
	return b.library()
}

// What rule files may have. The library that comes with the package has a tenth of it.
const (
	mostBytes  = 1 << 20 // of a file
	mostLine   = 1 << 13 // bytes of a line
	mostRules  = 10_000
	mostSteps  = 200_000 // lines that are played, with those of setups in each rule
	mostErrors = 100     // that are told
)

// readBounded reads a file that is not too large for rules.
func readBounded(folder fs.FS, name string) (string, error) {
	f, err := folder.Open(name)
	if err != nil {
		return "", err
	}
	text, err := io.ReadAll(io.LimitReader(f, mostBytes+1))
	return string(text), errors.Join(err, f.Close())
}

// ParseRules reads the rules of one text. Error: what is wrong with it, each a
// *RuleError, joined.
func ParseRules(file, text string) (Library, error) {
	var b ruleBook
	b.read(file, text)
	return b.library()
}
