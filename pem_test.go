//go:build go1.24

package cdfauth

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"encoding/pem"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode/utf16"
)

// inUTF16 writes a text as Windows does.
func inUTF16(order binary.AppendByteOrder, text string) string {
	var b []byte
	for _, unit := range utf16.Encode([]rune(text)) {
		b = order.AppendUint16(b, unit)
	}
	return string(b)
}

// wrapped cuts a text into lines, as base64 of coreutils does.
func wrapped(text string) string {
	var b strings.Builder
	for len(text) > 76 {
		b.WriteString(text[:76] + "\n")
		text = text[76:]
	}
	return b.String() + text + "\n"
}

// asJSON writes a text as a string in JSON, without HTML's escapes.
func asJSON(text string) string {
	b, _ := json.Marshal(text)
	return string(b)
}

// replacing returns a damage that replaces a text by another one.
func replacing(old, damaged string) func(string) string {
	return func(s string) string { return strings.ReplaceAll(s, old, damaged) }
}

// inBase64 returns a damage whose result is encoded.
func inBase64(damage func(string) string) func(string) string {
	return func(s string) string { return base64.StdEncoding.EncodeToString([]byte(damage(s))) }
}

// damages are what variables, YAML files, secret stores, editors and shells do to a
// text, such that it still has one reading.
var damages = map[string]func(string) string{
	"line breaks as \\n":           replacing("\n", `\n`),
	"line breaks as \\r\\n":        replacing("\n", `\r\n`),
	"line breaks as \\\\n":         replacing("\n", `\\n`),
	"backslash at each line's end": replacing("\n", "\\\n"),
	"line breaks are blanks":       replacing("\n", " "),
	"line breaks are tabs":         replacing("\n", "\t"),
	"line breaks are CR":           replacing("\n", "\r"),
	"line breaks are CRLF":         replacing("\n", "\r\n"),
	"line breaks are doubled":      replacing("\n", "\n\n"),
	"line breaks are gone":         replacing("\n", ""),
	"every white space is gone": func(s string) string {
		return strings.Join(strings.Fields(s), "")
	},
	"blanks before each line": func(s string) string {
		return "    " + strings.ReplaceAll(s, "\n", "\n    ")
	},
	"no-break spaces before lines": replacing("\n", "\n\u00a0\u00a0"),
	"blanks behind each line":      replacing("\n", "  \n"),
	"blocks are glued together":    replacing("-----\n-----", "----------"),
	"in quotes":                    func(s string) string { return `"` + s + `"` },
	"in single quotes":             func(s string) string { return "'" + s + "'" },
	"each line in quotes": func(s string) string {
		return `"` + strings.ReplaceAll(s, "\n", "\\n\"\n\"") + `"`
	},
	"in JSON": asJSON,
	"in JSON of PHP": func(s string) string {
		return strings.ReplaceAll(asJSON(s), "/", `\/`)
	},
	"in JSON of .NET": func(s string) string {
		return strings.ReplaceAll(asJSON(s), "+", `\u002B`)
	},
	"in JSON of Gson": func(s string) string {
		return strings.ReplaceAll(asJSON(s), "=", `\u003d`)
	},
	"in base64": inBase64(func(s string) string { return s }),
	"in base64 of several lines": func(s string) string {
		return wrapped(base64.StdEncoding.EncodeToString([]byte(s)))
	},
	"in base64 and quotes": func(s string) string {
		return `"` + base64.StdEncoding.EncodeToString([]byte(s)) + `"`
	},
	"in base64url without padding": func(s string) string {
		return base64.RawURLEncoding.EncodeToString([]byte(s))
	},
	"in base64 of CRLF":           inBase64(replacing("\n", "\r\n")),
	"in base64 of \\n":            inBase64(replacing("\n", `\n`)),
	"byte order mark":             func(s string) string { return "\ufeff" + s },
	"byte order mark before each": replacing("-----BEGIN", "\ufeff-----BEGIN"),
	"UTF-16 of Windows": func(s string) string {
		return "\xff\xfe" + inUTF16(binary.LittleEndian, s)
	},
	"UTF-16, big end first": func(s string) string {
		return "\xfe\xff" + inUTF16(binary.BigEndian, s)
	},
	"UTF-16 without a mark": func(s string) string {
		return inUTF16(binary.LittleEndian, s)
	},
	"UTF-16 without, big end first": func(s string) string { return inUTF16(binary.BigEndian, s) },
	"UTF-16 in base64": inBase64(func(s string) string {
		return inUTF16(binary.LittleEndian, s)
	}),
	"zero-width space before each line": replacing("\n", "\n\u200b"),
	"mark of Windows before BEGIN":      func(s string) string { return "\u200e" + s },
	"zero-width space in BEGIN":         replacing("-----BEGIN ", "-----BEGIN \u200b"),
	"two blanks in BEGIN":               replacing("BEGIN ", "BEGIN  "),
	"the last hyphens are missing":      func(s string) string { return strings.TrimRight(s, "-\n") },
	"padding is missing":                replacing("=", ""),
	"text around it": func(s string) string {
		return "Here: it is\n" + s + "\n-- \nyours"
	},
}

// TestDamageWithOneReadingIsMended: Stores and editors damage a key in known
// ways. Where only one reading is left, a key and its certificate are read all
// the same.
func TestDamageWithOneReadingIsMended(t *testing.T) {
	keys := map[string]string{"rsa-pkcs1.pem": "", "p256-sec1.pem": "", "ed25519-pkcs8.pem": ""}
	if !fipsOnly {
		keys["pbes2-aes256-sha256.pem"] = "correct"
	}
	for name, passphrase := range keys {
		good, err := parseText(testKey(t, name), passphrase)
		if err != nil {
			t.Fatal(err)
		}
		cert := pemOf(issueCert(t, "leaf", good.signer, nil, nil, nil))
		for _, text := range []string{testKey(t, name) + cert, cert + testKey(t, name)} {
			for damage, change := range damages {
				pair, err := parseText(change(text), passphrase)
				if err != nil {
					t.Errorf("%s, %s: %v", name, damage, err)
					continue
				}
				if pair.kind != good.kind || pair.certificates[0].problem != "" ||
					!pair.certificates[0].hasKey(good.public) || len(pair.chain) != 1 {
					t.Errorf("%s, %s: another key or certificate", name, damage)
				}
			}
		}
	}
}

// TestBareBase64OfDERIsRead: Some stores remove the lines with hyphens.
func TestBareBase64OfDERIsRead(t *testing.T) {
	for _, name := range []string{"rsa-pkcs1.pem", "rsa-pkcs8.pem", "p256-pkcs8.pem",
		"ed25519-pkcs8.pem"} {
		lines := strings.Split(strings.TrimSpace(testKey(t, name)), "\n")
		for _, separator := range []string{"", " ", "\n", `\n`} {
			pair, err := parseText(strings.Join(lines[1:len(lines)-1], separator), "")
			if err != nil || pair.signer == nil {
				t.Errorf("%s with %q between the lines: %v", name, separator, err)
			}
		}
	}
}

// TestUnreadableKeyIsNamed: Where a text does not have exactly one reading, the
// error says what is wrong with it, and shows none of it.
func TestUnreadableKeyIsNamed(t *testing.T) {
	key, cert := testKey(t, "p256-pkcs8.pem"), testKey(t, "p256-cert.pem")
	first, _, _ := strings.Cut(key, "\n")
	line := strings.Split(key, "\n")[1]
	der := string(testDER(t, "p256-pkcs8.pem"))
	for _, tt := range []struct {
		name, text, want string
	}{
		{"the first line alone", first,
			"has PRIVATE KEY, but it has no line -----END PRIVATE KEY-----: it was cut off"},
		{"cut off", key[:100],
			"has PRIVATE KEY, but it has no line -----END PRIVATE KEY-----: it was cut off"},
		{"cut off before the certificate", key[:100] + cert,
			"has PRIVATE KEY, but it has no line -----END PRIVATE KEY-----: it was cut off"},
		{"the end of another", strings.Replace(key, "END PRIVATE", "END PUBLIC", 1),
			"has PRIVATE KEY, but it does not end with -----END PRIVATE KEY-----"},
		{"a line is missing", strings.Replace(key, line, "", 1), "has a private key that is damaged"},
		{"masked", strings.Replace(key, line[:8], "********", 1),
			"has PRIVATE KEY, but it has '*' in it, which is not base64"},
		{"shortened", strings.Replace(key, line[:20], "…", 1),
			"has PRIVATE KEY, but it has '…' in it, which is not base64"},
		{"three characters are missing", strings.Replace(key, line[:3], "", 1),
			"has PRIVATE KEY, but it is not whole"},
		{"nothing in it", "-----BEGIN PRIVATE KEY-----\n-----END PRIVATE KEY-----\n",
			"has PRIVATE KEY, but it is empty"},
		{"no hyphens", strings.ReplaceAll(key, "-", ""),
			"has the words PRIVATE KEY, but no block of PEM"},
		{"long hyphens", strings.ReplaceAll(key, "-----", "—–"),
			"has the words PRIVATE KEY, but no block of PEM"},
		{"three hyphens", strings.ReplaceAll(key, "-----", "---"),
			"has the words PRIVATE KEY, but no block of PEM"},
		{"a public key", "-----BEGIN PUBLIC KEY-----\nMCow\n-----END PUBLIC KEY-----\n",
			"has no private key (it has PUBLIC KEY): want a PEM block PRIVATE KEY"},
		{"a request", "-----BEGIN CERTIFICATE REQUEST-----\nMCow\n-----END CERTIFICATE REQUEST-----\n",
			"has no private key (it has CERTIFICATE REQUEST): want"},
		{"a file's name", "/etc/tls/tls.key",
			"has no PEM, and looks like the name of a file: SecretFile reads one"},
		{"a file's name on Windows", `C:\tls\tls.key`,
			"has no PEM, and looks like the name of a file: SecretFile reads one"},
		{"something else", "hunter2", "has no private key: want a PEM block"},
		{"null", "null", "has no private key: want a PEM block"},
		{"DER", der,
			"has PRIVATE KEY, but it is binary (DER): want PEM, as written by `openssl pkey -inform der"},
		{"DER before a certificate", der + "\n" + cert,
			"has PRIVATE KEY, but it is binary (DER): want PEM, as written by `openssl pkey -inform der"},
		{"DER behind a certificate", cert + "\n" + der,
			"has PRIVATE KEY, but it is binary (DER): want PEM, as written by `openssl pkey -inform der"},
		{"PKCS#12 cut off", "MIIKXgIBAzCC!",
			"is PKCS#12 (.pfx, .p12): want PEM, as written by `openssl pkcs12"},
		{"bare base64 cut off", line[:61],
			"has PRIVATE KEY in base64 that is damaged or cut off: want it whole"},
		{"bare base64 masked", line + "\n********\n",
			"has PRIVATE KEY in base64 that is damaged or cut off: want it whole"},
		{"OpenSSH",
			"-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXktdjEAAAAA\n-----END OPENSSH PRIVATE KEY-----\n",
			"has a key of OpenSSH, for which no identity provider has a use: want RSA"},
		{"a format of old", "-----BEGIN DSA PRIVATE KEY-----\nAAAA\n-----END DSA PRIVATE KEY-----\n",
			"has DSA PRIVATE KEY, which is not read: want RSA"},
	} {
		_, err := parseText(tt.text, "")
		if err == nil || !strings.HasPrefix(err.Error(), "cdfauth: Certificate "+tt.want) {
			t.Errorf("%s: got %v, want %q", tt.name, err, tt.want)
			continue
		}
		if strings.Contains(err.Error(), line[:12]) ||
			strings.Contains(tt.want, "PKCS#12") != strings.Contains(err.Error(), "PKCS#12") {
			t.Errorf("%s: shows the key, or speaks of PKCS#12: %v", tt.name, err)
		}
	}
	// The line breaks are gone, and the last hyphens: a key seems to be a label.
	glued := "-----BEGIN PRIVATE KEY-----MCow-----END PRIVATE KEY S3CR3T -----BEGIN PRIVATE KEY-----"
	if _, err := parseText(glued, ""); err == nil || strings.Contains(err.Error(), "S3CR3T") {
		t.Errorf("what stands behind END: %v", err)
	}
}

// TestBrokenKeyIsNoSecondKey: A text with the beginning of a key, and then the
// whole key, has one key.
func TestBrokenKeyIsNoSecondKey(t *testing.T) {
	key := testKey(t, "p256-pkcs8.pem")
	if _, err := parseText(key[:100]+"\n"+key, ""); err != nil {
		t.Error(err)
	}
}

// readsAsEncodingPEM returns the first block with a known label that encoding/pem
// finds and readPEM does not, in that order; nil if there is none.
func readsAsEncodingPEM(text string) *pem.Block {
	blocks := readPEM(text)
	for block, rest := pem.Decode([]byte(text)); block != nil; block, rest = pem.Decode(rest) {
		found := false
		for !found && len(blocks) > 0 {
			b := blocks[0]
			blocks = blocks[1:]
			found = b.label == block.Type && (bytes.Equal(b.der, block.Bytes) || b.rfc1421 != "")
		}
		if !found && len(block.Bytes) > 0 && slices.Contains(knownLabels, block.Type) {
			return block
		}
	}
	return nil
}

// TestReadsWhatEncodingPEMReads: The reader of this package takes more than
// encoding/pem. Of a text in good order it finds the same blocks.
func TestReadsWhatEncodingPEMReads(t *testing.T) {
	names, err := filepath.Glob(filepath.Join("testdata", "keys", "*.pem"))
	if err != nil || len(names) == 0 {
		t.Fatal(err, names)
	}
	all := ""
	for _, name := range names {
		text := testKey(t, filepath.Base(name))
		all += text
		if block := readsAsEncodingPEM(text); block != nil {
			t.Errorf("%s: no %s", name, block.Type)
		}
	}
	withHeaders := "-----BEGIN PRIVATE KEY-----\nComment: made by hand\nX-Note:\n\n" +
		strings.SplitN(testKey(t, "p256-pkcs8.pem"), "\n", 2)[1]
	if block := readsAsEncodingPEM(all + withHeaders); block != nil {
		t.Errorf("no %s", block.Type)
	}
	if _, err := parseText(withHeaders, ""); err != nil {
		t.Error(err)
	}
}

// TestContentOfSequenceIsWhatFollowsItsLength: a key in DER is recognised by what its
// SEQUENCE begins with. The length in front of that has one to four bytes (X.690 §8.1.3).
func TestContentOfSequenceIsWhatFollowsItsLength(t *testing.T) {
	for der, want := range map[string]string{
		"\x30\x04abcd":             "abcd",
		"\x30\x7fabcd":             "abcd",
		"\x30\x80abcd":             "abcd",
		"\x30\x81\x80abcd":         "abcd",
		"\x30\x82\x01\x00abcd":     "abcd",
		"\x30\x83\x01\x00\x00abcd": "abcd",
		"\x30\x84\x01\x00\x00abcd": "",
		"\x30\x03abc":              "",
		"\x31\x04abcd":             "",
	} {
		if got := contentOfSequence([]byte(der)); string(got) != want {
			t.Errorf("%x: %q, want %q", der, got, want)
		}
	}
}

// TestLabelEndsAtWhatNoLabelHas: a label of PEM has capital letters, digits and blanks (RFC
// 7468 §2 allows more, which no label that is known has). The hyphens behind it go.
func TestLabelEndsAtWhatNoLabelHas(t *testing.T) {
	for text, want := range map[string][2]string{
		"PRIVATE KEY-----\nAAAA":  {"PRIVATE KEY", "\nAAAA"},
		"PRIVATEKEY-----":         {"PRIVATE KEY", ""},
		"AZ09 \t KEY-----x":       {"AZ09 KEY", "x"},
		"-----x":                  {"", "x"},
		"PRIVATE KEY":             {"PRIVATE KEY", ""},
		"PRIVATE KEY and no more": {"PRIVATE KEY", "and no more"},
	} {
		label, rest := cutLabel(text)
		if got := [2]string{label, rest}; got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}
