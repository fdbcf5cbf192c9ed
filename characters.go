//go:build go1.24

package cdfauth

import (
	"encoding/binary"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

// This file finds what does not belong to a value that somebody has copied: the
// line end of a file, the quotes of a .env file, the byte order mark of an
// editor, a character that cannot be seen. What it returns for errors has the kind
// of a character and its place, never the value, which may be a secret.

// decodeText returns text in UTF-8 and without the byte order mark that it may
// begin with. After the mark of UTF-16, which Windows PowerShell writes, it
// converts the text. An odd number of bytes is not UTF-16, and stays as it is. No
// secret, key or token begins with such a mark, so that nothing else can be meant.
func decodeText(text string) string {
	if rest, found := strings.CutPrefix(text, "\xef\xbb\xbf"); found {
		return rest
	}
	if rest, found := strings.CutPrefix(text, "\xff\xfe"); found && len(rest)%2 == 0 {
		return fromUTF16(rest, binary.LittleEndian)
	}
	if rest, found := strings.CutPrefix(text, "\xfe\xff"); found && len(rest)%2 == 0 {
		return fromUTF16(rest, binary.BigEndian)
	}
	return text
}

// fromUTF16 converts UTF-16 without a byte order mark to UTF-8. It drops the last
// byte of an odd number of bytes.
func fromUTF16(text string, order binary.ByteOrder) string {
	units := make([]uint16, len(text)/2)
	for i := range units {
		units[i] = order.Uint16([]byte(text[2*i : 2*i+2]))
	}
	return string(utf16.Decode(units))
}

// isQuoted reports whether s has quotes around it: a double quote at both ends, or a
// single one.
func isQuoted(s string) bool {
	if len(s) < 2 {
		return false
	}
	first, last := s[0], s[len(s)-1]
	return first == last && (first == '"' || first == '\'')
}

// findCharacter names the first character of s for which bad is true, and says
// where it is. It returns "" if there is none.
func findCharacter(s string, bad func(rune) bool) string {
	i := strings.IndexFunc(s, bad)
	if i < 0 {
		return ""
	}
	r, size := utf8.DecodeRuneInString(s[i:])
	switch {
	case strings.Trim(s[i:], "\r\n") == "":
		return "a line end at its end"
	case i == 0:
		return characterName(r, size) + " at its start"
	case i+size == len(s):
		return characterName(r, size) + " at its end"
	default:
		return fmt.Sprintf("%s at byte %d of %d", characterName(r, size), i+1, len(s))
	}
}

// characterName names the kind of a character. The size is the number of bytes from
// which it was decoded.
func characterName(r rune, size int) string {
	switch {
	case r == utf8.RuneError && size == 1:
		return "a byte that is not UTF-8"
	case r == 0:
		return "a NUL (is the text UTF-16?)"
	case r == '\n', r == '\r':
		return "a line end"
	case r == '\t':
		return "a tab"
	case r == ' ':
		return "a blank"
	case r == '"':
		return "a double quote"
	case r == '\ufeff':
		return "a byte order mark"
	case unicode.IsControl(r):
		return fmt.Sprintf("a control character (%U)", r)
	case !unicode.IsPrint(r):
		return fmt.Sprintf("an invisible character (%U)", r)
	default:
		return "a character that is not ASCII"
	}
}

// notVisibleASCII reports whether r is anything but a visible ASCII character.
func notVisibleASCII(r rune) bool { return r <= ' ' || r > '~' }

// notPrintableASCII reports whether r is anything but a visible ASCII character
// or a blank (VSCHAR in RFC 6749 appendix A).
func notPrintableASCII(r rune) bool { return r < ' ' || r > '~' }

// notPrintable reports whether r is a control character, a character that cannot
// be seen, or what is decoded from a byte that is not UTF-8.
func notPrintable(r rune) bool { return !unicode.IsPrint(r) || r == utf8.RuneError }
