package cdfauth

import "testing"

// TestTextOfAnOddNumberOfBytesIsNotUTF16: an editor of Windows may save a secret as UTF-16,
// which is decoded by its byte order mark. A text of an odd number of bytes is not UTF-16,
// whatever mark it begins with. It stays as it is, so that an error can say what is wrong.
func TestTextOfAnOddNumberOfBytesIsNotUTF16(t *testing.T) {
	for text, want := range map[string]string{
		"\xef\xbb\xbfab":     "ab",
		"\xff\xfea\x00b\x00": "ab",
		"\xfe\xff\x00a\x00b": "ab",
		"\xff\xfea\x00b":     "\xff\xfea\x00b",
		"\xfe\xff\x00a\x00":  "\xfe\xff\x00a\x00",
		"ab":                 "ab",
	} {
		if got := decodeText(text); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}

// TestPlaceOfACharacterIsCountedInBytes: an error about a secret cannot show it, and so says
// where the bad character is. The place is counted in bytes, of which a character may have
// several, and a character that ends the text is called the one at its end.
func TestPlaceOfACharacterIsCountedInBytes(t *testing.T) {
	for text, want := range map[string]string{
		"ab\u00e5":    "a character that is not ASCII at its end",
		"a\u00e5b":    "a character that is not ASCII at byte 2 of 4",
		"\u00e5ab":    "a character that is not ASCII at its start",
		"a\rb":        "a line end at byte 2 of 3",
		"a\nb":        "a line end at byte 2 of 3",
		"ab\r\n":      "a line end at its end",
		"a\xff":       "a byte that is not UTF-8 at its end",
		"a\ufffd":     "a character that is not ASCII at its end",
		"ab":          "",
		"a\u2028":     "an invisible character (U+2028) at its end",
		"a\U0001f600": "a character that is not ASCII at its end",
	} {
		if got := findCharacter(text, notVisibleASCII); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}

// TestTwoQuotesAroundAValueAreQuotes: a .env file or a shell may leave the quotes around a
// value, also around an empty one. A single quote, or one of another kind at the other end,
// may belong to the value.
func TestTwoQuotesAroundAValueAreQuotes(t *testing.T) {
	for text, want := range map[string]bool{
		`"secret"`: true,
		`'secret'`: true,
		`""`:       true,
		`"`:        false,
		``:         false,
		`"secret'`: false,
		`"secret`:  false,
		`secret"`:  false,
	} {
		if got := isQuoted(text); got != want {
			t.Errorf("%s: %t, want %t", text, got, want)
		}
	}
}
