package main

import (
	"cmp"
	"fmt"
	"go/ast"
	"go/build"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// A mutant is one operator of the package in place of another.
type mutant struct {
	id        int
	file      string
	line, col int
	from, to  string
}

func (m mutant) String() string {
	return fmt.Sprintf("%s:%d:%d: %s for %s", m.file, m.line, m.col, m.to, m.from)
}

// replacements has, for each operator, those that are put in its place: the opposite
// of a comparison, its bound in or out, and another operation.
var replacements = map[token.Token][]string{
	token.EQL: {"!="},
	token.NEQ: {"=="},
	token.LSS: {"<=", ">="},
	token.LEQ: {"<", ">"},
	token.GTR: {">=", "<="},
	token.GEQ: {">", "<"},
	token.ADD: {"-"},
	token.SUB: {"+"},
	token.MUL: {"/"},
	token.QUO: {"*"},
	token.REM: {"*"},
}

// A rewriter rewrites a package so that the environment variable MUTANT selects one of
// its mutants when the program runs. The package then has to be compiled only once.
type rewriter struct {
	fset    *token.FileSet
	pkg     *types.Package
	info    *types.Info
	mutants []mutant
	// skipped are mutants that cannot be selected: of constants, and of expressions whose
	// type has no name in their file.
	skipped []mutant

	// Of the file that is being rewritten:
	file    *ast.File
	name    string
	source  string
	imports map[string]string // names by path
}

// rewrite rewrites the package in dir for Linux, apart from files that excluded reports.
func rewrite(dir string, excluded func(file string) bool) (*rewriter, error) {
	build.Default.GOOS = "linux"
	found, err := build.ImportDir(dir, 0)
	if err != nil {
		return nil, err
	}
	r := &rewriter{
		fset: token.NewFileSet(),
		info: &types.Info{Types: map[ast.Expr]types.TypeAndValue{}},
	}
	var files []*ast.File
	for _, name := range found.GoFiles {
		file, err := parser.ParseFile(r.fset, filepath.Join(dir, name), nil, parser.ParseComments)
		if err != nil {
			return nil, err
		}
		files = append(files, file)
	}
	config := types.Config{Importer: importer.ForCompiler(r.fset, "source", nil)}
	r.pkg, err = config.Check(found.ImportPath, r.fset, files, r.info)
	if err != nil {
		return nil, err
	}
	for i, file := range files {
		if excluded(found.GoFiles[i]) {
			continue
		}
		if err := r.rewriteFile(dir, found.GoFiles[i], file); err != nil {
			return nil, err
		}
	}
	const selector = `package cdfauth

import (
	"os"
	"strconv"
)

var selectedMutant, _ = strconv.Atoi(os.Getenv("MUTANT"))
`
	return r, os.WriteFile(filepath.Join(dir, "selectedmutant.go"), []byte(selector), 0o644)
}

func (r *rewriter) rewriteFile(dir, name string, file *ast.File) error {
	source, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		return err
	}
	r.file = file
	r.name = name
	r.source = string(source)
	r.imports = map[string]string{}
	for _, spec := range file.Imports {
		path := strings.Trim(spec.Path.Value, `"`)
		words := strings.Split(strings.TrimSuffix(path, "/v2"), "/")
		r.imports[path] = words[len(words)-1]
	}
	text := r.text(file, file.FileStart, file.FileEnd)
	return os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644)
}

// slice returns the source between two positions.
func (r *rewriter) slice(from, to token.Pos) string {
	return r.source[from-r.file.FileStart : to-r.file.FileStart]
}

// text returns the source between two positions, in which the expressions and
// statements inside node that have mutants are replaced.
func (r *rewriter) text(node ast.Node, from, to token.Pos) string {
	type part struct {
		from, to token.Pos
		text     string
	}
	var parts []part
	ast.Inspect(node, func(inner ast.Node) bool {
		if inner == nil || inner == node {
			return inner == node
		}
		if declaration, ok := inner.(*ast.GenDecl); ok && declaration.Tok == token.CONST {
			r.skip(declaration)
			return false
		}
		text := r.mutated(inner)
		if text == "" {
			return true
		}
		parts = append(parts, part{inner.Pos(), inner.End(), text})
		return false
	})
	slices.SortFunc(parts, func(a, b part) int { return cmp.Compare(a.from, b.from) })
	var whole strings.Builder
	for _, p := range parts {
		whole.WriteString(r.slice(from, p.from))
		whole.WriteString(p.text)
		from = p.to
	}
	whole.WriteString(r.slice(from, to))
	return whole.String()
}

// operand returns the text of an expression that is part of one with mutants.
func (r *rewriter) operand(e ast.Expr) string {
	return cmp.Or(r.mutated(e), r.text(e, e.Pos(), e.End()))
}

// mutated returns what takes the place of a node that has mutants: a function that does
// what the selected mutant does. It returns "" if the node has none.
func (r *rewriter) mutated(node ast.Node) string {
	switch n := node.(type) {
	case *ast.BinaryExpr:
		return r.mutatedBinary(n)
	case *ast.UnaryExpr:
		name, named := r.typeName(n)
		if n.Op != token.SUB || !named {
			return ""
		}
		id := r.add(n.OpPos, "-", "+")
		x := r.operand(n.X)
		return fmt.Sprintf("func() %s { if selectedMutant == %d { return +%s }; return -%s }()",
			name, id, x, x)
	case *ast.IncDecStmt:
		to := "--"
		if n.Tok == token.DEC {
			to = "++"
		}
		id := r.add(n.TokPos, n.Tok.String(), to)
		x := r.slice(n.X.Pos(), n.X.End())
		return fmt.Sprintf("func() { if selectedMutant == %d { %s%s } else { %s%s } }()",
			id, x, to, x, n.Tok)
	}
	return ""
}

func (r *rewriter) mutatedBinary(e *ast.BinaryExpr) string {
	if !r.hasMutants(e) {
		return ""
	}
	name, named := r.typeName(e)
	if !named {
		r.skip(e)
		return ""
	}
	x := r.operand(e.X)
	y := r.operand(e.Y)
	text := "func() " + name + " { switch selectedMutant { "
	for _, to := range replacements[e.Op] {
		text += fmt.Sprintf("case %d: return %s %s %s; ", r.add(e.OpPos, e.Op.String(), to), x, to, y)
	}
	return text + "}; return " + x + " " + e.Op.String() + " " + y + " }()"
}

// hasMutants reports whether an operator is replaced. That of texts, +, is not.
func (r *rewriter) hasMutants(e *ast.BinaryExpr) bool {
	if replacements[e.Op] == nil {
		return false
	}
	basic, ok := r.info.TypeOf(e).Underlying().(*types.Basic)
	return ok && basic.Info()&(types.IsNumeric|types.IsBoolean) != 0
}

// skip notes the mutants of a node that cannot be selected.
func (r *rewriter) skip(node ast.Node) {
	ast.Inspect(node, func(inner ast.Node) bool {
		e, ok := inner.(*ast.BinaryExpr)
		if ok && r.hasMutants(e) {
			for _, to := range replacements[e.Op] {
				r.skipped = append(r.skipped, r.newMutant(e.OpPos, e.Op.String(), to))
			}
		}
		return true
	})
}

// typeName returns the name of an expression's type in the file. It reports false if
// the file does not import the package of the type.
func (r *rewriter) typeName(e ast.Expr) (string, bool) {
	named := true
	name := types.TypeString(types.Default(r.info.TypeOf(e)), func(p *types.Package) string {
		if p == r.pkg {
			return ""
		}
		name, imported := r.imports[p.Path()]
		if !imported {
			named = false
		}
		return name
	})
	return name, named
}

func (r *rewriter) newMutant(pos token.Pos, from, to string) mutant {
	at := r.fset.Position(pos)
	return mutant{len(r.mutants) + 1, r.name, at.Line, at.Column, from, to}
}

func (r *rewriter) add(pos token.Pos, from, to string) int {
	m := r.newMutant(pos, from, to)
	r.mutants = append(r.mutants, m)
	return m.id
}
