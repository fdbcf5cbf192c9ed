package cdfauth

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/build/constraint"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// These tests hold AUDIT.md against the code: what it says of files, lines and
// capabilities is what there is.

// auditTable returns the rows of the table of AUDIT.md whose heading row begins with
// the given cell.
func auditTable(t *testing.T, heading string) [][]string {
	t.Helper()
	text, err := os.ReadFile("AUDIT.md")
	if err != nil {
		t.Fatal(err)
	}
	var rows [][]string
	inside := false
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		switch {
		case strings.HasPrefix(line, "| "+heading+" |"):
			inside = true
		case !strings.HasPrefix(line, "|"):
			inside = false
		case inside && !strings.HasPrefix(line, "| ---"):
			var cells []string
			for cell := range strings.SplitSeq(strings.Trim(line, "|"), "|") {
				cells = append(cells, strings.TrimSpace(cell))
			}
			rows = append(rows, cells)
		}
	}
	if len(rows) == 0 {
		t.Fatalf("AUDIT.md has no table that begins with %q", heading)
	}
	return rows
}

// quoted returns the words of a cell that stand between backquotes.
func quoted(cell string) []string {
	var words []string
	for i, part := range strings.Split(cell, "`") {
		if i%2 == 1 {
			words = append(words, part)
		}
	}
	return words
}

// packageFiles returns the package's files without the tests, parsed.
func packageFiles(t *testing.T) map[string]*ast.File {
	t.Helper()
	names, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]*ast.File{}
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		files[name] = file
	}
	return files
}

// TestCapabilitiesAreInTheFilesThatAuditNames: each thing that the package can do to a
// machine is done in the files that AUDIT.md names for it, and in no other. An auditor who
// wants to know where programs are started or files are opened reads those files alone.
//
// The column "by" of the table has what the test looks for: the path of an import
// (`os/exec`), a function or a variable of a package (`os.Getenv`), a method whatever
// its receiver (`.RoundTrip`), or the keyword `go`.
func TestCapabilitiesAreInTheFilesThatAuditNames(t *testing.T) {
	files := packageFiles(t)
	for _, row := range auditTable(t, "it can") {
		what := row[0]
		allowed := quoted(row[2])
		used := map[string]bool{}
		for _, means := range quoted(row[1]) {
			for name, file := range files {
				if uses(file, means) {
					used[name] = true
					if !slices.Contains(allowed, name) {
						t.Errorf("%s uses %s (%s): AUDIT.md allows it in %v", name, means, what, allowed)
					}
				}
			}
		}
		for _, name := range allowed {
			if !used[name] {
				t.Errorf("AUDIT.md says that %s can %s: it does not", name, what)
			}
		}
	}
}

// uses reports whether a file uses a capability. What means may be, the comment of
// TestCapabilitiesAreInTheFilesThatAuditNames says.
func uses(file *ast.File, means string) bool {
	if means == "go" {
		return hasNode(file, func(n ast.Node) bool {
			_, ok := n.(*ast.GoStmt)
			return ok
		})
	}
	if method, ok := strings.CutPrefix(means, "."); ok {
		return hasNode(file, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok {
				return false
			}
			selector, ok := call.Fun.(*ast.SelectorExpr)
			return ok && selector.Sel.Name == method
		})
	}
	for _, spec := range file.Imports {
		path, _ := strconv.Unquote(spec.Path.Value)
		if path == means {
			return true
		}
		local := path[strings.LastIndex(path, "/")+1:]
		member, ok := strings.CutPrefix(means, local+".")
		if !ok {
			continue
		}
		if spec.Name != nil {
			local = spec.Name.Name
		}
		found := hasNode(file, func(n ast.Node) bool {
			selector, ok := n.(*ast.SelectorExpr)
			if !ok {
				return false
			}
			of, ok := selector.X.(*ast.Ident)
			return ok && of.Name == local && selector.Sel.Name == member
		})
		if found {
			return true
		}
	}
	return false
}

// hasNode reports whether the syntax tree of a file has a node of which is holds.
func hasNode(file *ast.File, is func(ast.Node) bool) bool {
	found := false
	ast.Inspect(file, func(n ast.Node) bool {
		found = found || n != nil && is(n)
		return !found
	})
	return found
}

// TestImportsAreNamedInAudit: every package that is imported is in AUDIT.md's table of what
// is left to trust. An import that the table of capabilities does not know could otherwise
// bring in a capability that no auditor sees.
func TestImportsAreNamedInAudit(t *testing.T) {
	named := map[string]bool{}
	for _, row := range auditTable(t, "of the standard library") {
		for _, path := range quoted(row[0]) {
			named[path] = true
		}
	}
	used := map[string]bool{}
	for name, file := range packageFiles(t) {
		for _, spec := range file.Imports {
			path, _ := strconv.Unquote(spec.Path.Value)
			used[path] = true
			if !named[path] {
				t.Errorf("%s imports %s, which AUDIT.md does not name", name, path)
			}
		}
	}
	for path := range named {
		if !used[path] {
			t.Errorf("AUDIT.md names %s, which is not imported", path)
		}
	}
}

// TestSetsOfAuditHaveEachFileOnce: an auditor who vendors one flow reads the files of its
// set alone. So AUDIT.md's table of sets has each file once, and its numbers of lines are
// true, for a set alone and for one with the sets that it needs.
func TestSetsOfAuditHaveEachFileOnce(t *testing.T) {
	setOf := map[string]string{}
	linesOf := map[string]int{}
	for _, row := range auditTable(t, "set") {
		set := row[0]
		for _, name := range quoted(row[1]) {
			if setOf[name] != "" {
				t.Errorf("%s is in the sets %s and %s", name, setOf[name], set)
			}
			setOf[name] = set
			text, err := os.ReadFile(name)
			if err != nil {
				t.Error(err)
				continue
			}
			linesOf[set] += bytes.Count(text, []byte("\n"))
		}
		total := linesOf[set]
		if row[4] != "" {
			for need := range strings.SplitSeq(row[4], ",") {
				need = strings.TrimSpace(need)
				if linesOf[need] == 0 {
					t.Errorf("set %s needs %s, which is no set above it", set, need)
				}
				total += linesOf[need]
			}
		}
		if row[2] != thousands(linesOf[set]) || row[3] != thousands(total) {
			t.Errorf("set %s has %s lines, and %s with what it needs; AUDIT.md says %s and %s",
				set, thousands(linesOf[set]), thousands(total), row[2], row[3])
		}
	}
	for _, name := range slices.Sorted(maps.Keys(packageFiles(t))) {
		if setOf[name] == "" {
			t.Errorf("%s is in no set of AUDIT.md", name)
		}
	}
}

// thousands writes a number below a million with a comma.
func thousands(n int) string {
	if n < 1000 {
		return strconv.Itoa(n)
	}
	return fmt.Sprintf("%d,%03d", n/1000, n%1000)
}

// TestFilesHaveTheConstraintOfTheirGoVersion: somebody may copy a file into a module whose
// go line is older than 1.22, which has no range over integers. The file compiles there too,
// by its build constraint go1.24.
func TestFilesHaveTheConstraintOfTheirGoVersion(t *testing.T) {
	for name, file := range packageFiles(t) {
		found := false
		for _, group := range file.Comments {
			for _, comment := range group.List {
				expr, err := constraint.Parse(comment.Text)
				if err != nil || group.Pos() > file.Package {
					continue
				}
				older := func(tag string) bool { return tag != "go1.24" }
				found = found || !expr.Eval(older)
			}
		}
		if !found {
			t.Errorf("%s has no constraint //go:build go1.24", name)
		}
	}
}

// TestNoFileUsesAHigherFloor: AUDIT.md's table of floors has each file once. A file uses
// what is on its own floor or below, so that a reader who begins at the bottom meets
// nothing that she has not read.
func TestNoFileUsesAHigherFloor(t *testing.T) {
	floor := map[string]int{}
	for _, row := range auditTable(t, "floor") {
		n, err := strconv.Atoi(row[0])
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range quoted(row[1]) {
			if floor[name] != 0 {
				t.Errorf("%s is on two floors", name)
			}
			floor[name] = n
		}
	}
	files := packageFiles(t)
	definedIn := map[string]string{} // by name, of what is not a method or a field
	for name, file := range files {
		if floor[name] == 0 {
			t.Errorf("%s is on no floor of AUDIT.md", name)
		}
		for object := range file.Scope.Objects {
			definedIn[object] = name
		}
	}
	for name, file := range files {
		for _, ident := range file.Unresolved {
			other := definedIn[ident.Name]
			if other != "" && floor[other] > floor[name] {
				t.Errorf("%s (floor %d) uses %s of %s (floor %d)", name, floor[name], ident.Name,
					other, floor[other])
			}
		}
	}
}

// TestFunctionsThatAuditNamesAreInItsFiles: AUDIT.md names the functions through which
// bytes come in and go out, and their files. An auditor finds each function in the file
// that it names.
func TestFunctionsThatAuditNamesAreInItsFiles(t *testing.T) {
	files := packageFiles(t)
	rows := auditTable(t, "what")
	for _, row := range rows {
		if len(row) < 3 {
			continue
		}
		// The column of functions is the second in the one table, the last in the other.
		for _, cell := range []string{row[1], row[len(row)-1]} {
			var functions []string
			for _, word := range quoted(cell) {
				file, isFile := files[word]
				if !isFile {
					functions = append(functions, word)
					continue
				}
				for _, function := range functions {
					if !declares(file, function) {
						t.Errorf("AUDIT.md says that %s is in %s: it is not", function, word)
					}
				}
				functions = nil
			}
		}
	}
}

// declares reports whether a file declares a function or a method of that name.
func declares(file *ast.File, function string) bool {
	return hasNode(file, func(n ast.Node) bool {
		declared, ok := n.(*ast.FuncDecl)
		return ok && declared.Name.Name == function
	})
}
