//go:build go1.24

package cdfauth

import (
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// This file finds keys and certificates in the text of Certificate. That is PEM (RFC
// 7468), but it has often come through an environment variable, a YAML file or a
// secret store, each of which damages it in a way of its own. What has only one
// reading is read: line breaks that became blanks, the letters \n, or nothing;
// blanks, quotes and invisible characters; UTF-16; base64 of the whole. Everything
// else is an unreadable block, with a problem that says what is wrong with it. No
// problem shows any of a key.

// A pemBlock is one key or certificate of a text.
type pemBlock struct {
	// label is what stands behind BEGIN, such as PRIVATE KEY.
	label string
	// headers are those of RFC 1421 §4.6, which encrypted keys of old have.
	headers string
	// der is the content, or nil if there is a problem.
	der []byte
	// problem says what is wrong with the block, as the end of a sentence; "" if
	// nothing is.
	problem string
}

// Labels of RFC 7468 and of OpenSSL. Each is written here as it should be.
const (
	labelKey          = "PRIVATE KEY"           // RFC 7468 §10
	labelEncryptedKey = "ENCRYPTED PRIVATE KEY" // RFC 7468 §11
	labelRSAKey       = "RSA PRIVATE KEY"
	labelECKey        = "EC PRIVATE KEY"
	labelOpenSSHKey   = "OPENSSH PRIVATE KEY"
	labelCert         = "CERTIFICATE" // RFC 7468 §5
	labelX509Cert     = "X509 CERTIFICATE"
	labelTrustedCert  = "TRUSTED CERTIFICATE" // with what OpenSSL adds to it
	labelRequest      = "CERTIFICATE REQUEST" // RFC 7468 §7
	labelPublicKey    = "PUBLIC KEY"          // RFC 7468 §13
	labelPKCS7        = "PKCS7"               // RFC 7468 §8
	labelPKCS12       = "PKCS12"              // has no PEM of its own
)

var knownLabels = []string{labelKey, labelEncryptedKey, labelRSAKey, labelECKey, labelOpenSSHKey,
	labelCert, labelX509Cert, labelTrustedCert, labelRequest, labelPublicKey, labelPKCS7}

// isKey says that the block is a private key of a format that is read.
func (b pemBlock) isKey() bool {
	switch b.label {
	case labelKey, labelEncryptedKey, labelRSAKey, labelECKey:
		return true
	}
	return false
}

// isCertificate says that the block has certificates, of whatever format.
func (b pemBlock) isCertificate() bool {
	switch b.label {
	case labelCert, labelX509Cert, labelTrustedCert, labelPKCS7:
		return true
	}
	return false
}

// readPEM returns the blocks of a text in their order.
func readPEM(text string) []pemBlock {
	text = repairText(text)
	if !strings.Contains(text, beginMark) {
		if binary, ok := decodeBase64(text); ok {
			if inner := repairText(string(binary)); strings.Contains(inner, beginMark) {
				return scanPEM(inner)
			}
			if label := labelOfDER(binary); label != "" {
				return []pemBlock{{label: label, der: binary}}
			}
		}
	}
	return scanPEM(text)
}

// The marks of RFC 7468 §2 that a block stands between.
const (
	beginMark = "-----BEGIN"
	endMark   = "END"
	dashes    = "-----"
)

// scanPEM reads the blocks of a repaired text. Files in DER among them, as SecretFile
// joins them to others, are blocks with a problem.
func scanPEM(text string) []pemBlock {
	var blocks []pemBlock
	for {
		before, rest, found := strings.Cut(text, beginMark)
		before = strings.TrimLeft(before, "\r\n")
		if label := labelOfDER([]byte(before)); label != "" {
			problem := "is binary (DER): want PEM, as written by " + convertDER(label)
			blocks = append(blocks, pemBlock{label: label, der: []byte(before), problem: problem})
		}
		if !found {
			return blocks
		}
		var block pemBlock
		block, text = scanBlock(rest)
		blocks = append(blocks, block)
	}
}

// scanBlock reads the block that begins behind a BEGIN, and returns the text behind
// the block.
func scanBlock(text string) (block pemBlock, rest string) {
	label, text := cutLabel(text)
	block.label = label
	body, tail, found := strings.Cut(text, dashes)
	end, ended := strings.CutPrefix(tail, endMark)
	if !found || !ended {
		block.problem = fmt.Sprintf("has no line -----END %s-----: it was cut off,"+
			" as some do with a value of several lines", label)
		return block, text[len(body):]
	}
	endLabel, rest := cutLabel(end)
	if endLabel != label {
		block.problem = fmt.Sprintf("ends with -----END %s-----", endLabel)
		return block, rest
	}
	block.headers, body = cutHeaders(body)
	if strings.Contains(block.headers, "ENCRYPTED") {
		return block, rest
	}
	der, ok := decodeBase64(body)
	switch {
	case ok && len(der) > 0:
		block.der = der
	case ok:
		block.problem = "is empty"
	default:
		block.problem = problemOfBase64(body)
	}
	return block, rest
}

// cutLabel returns the label that text begins with, as it should be written, and the
// text behind the hyphens that follow it.
func cutLabel(text string) (label, rest string) {
	n := strings.IndexFunc(text, func(r rune) bool {
		return !('A' <= r && r <= 'Z' || '0' <= r && r <= '9' || r == ' ' || r == '\t')
	})
	if n < 0 {
		n = len(text)
	}
	rest = strings.TrimPrefix(text[n:], dashes)
	label = strings.Join(strings.Fields(text[:n]), " ")
	for _, known := range knownLabels {
		if strings.ReplaceAll(label, " ", "") == strings.ReplaceAll(known, " ", "") {
			label = known
		}
	}
	return label, rest
}

// cutHeaders cuts the headers of RFC 1421 §4.6 off the body of a block. They are the
// lines with a colon, which base64 never has. If the line breaks are gone, the
// headers of an encrypted key cannot be told from it, and it is all headers.
func cutHeaders(body string) (headers, rest string) {
	if strings.Contains(body, "Proc-Type") && strings.Contains(body, "ENCRYPTED") {
		return body, ""
	}
	rest = strings.TrimLeft(body, " \t\r\n")
	for {
		line, next, found := strings.Cut(rest, "\n")
		if !found || !strings.Contains(line, ":") {
			return headers, rest
		}
		headers += line + "\n"
		rest = strings.TrimLeft(next, " \t\r\n")
	}
}

// repairText undoes what programs do to a whole text. They write a line break, a
// blank, a slash, a plus or an equals sign in a string of theirs as an escape; editors
// and web pages add invisible characters.
func repairText(text string) string {
	damage := strings.NewReplacer(
		`\r`, "\n", `\n`, "\n", `\t`, " ", `\/`, "/",
		`\u002b`, "+", `\u002B`, "+", `\u003d`, "=", `\u003D`, "=",
		"\u00a0", " ", "\u00ad", "", "\u200b", "", "\u200c", "", "\u200d", "", "\u200e", "", "\u200f", "",
		"\u2060", "", "\ufeff", "")
	return damage.Replace(decodeUnmarkedUTF16(decodeText(text)))
}

// decodeUnmarkedUTF16 converts text in UTF-16 without a byte order mark to UTF-8. It
// recognises UTF-16 by the hyphens of PEM, and its byte order by the zero that an ASCII
// character has in front or behind. It returns other text as it is. decodeText does not
// do this, because no secret but PEM has something to recognise UTF-16 by.
func decodeUnmarkedUTF16(text string) string {
	switch {
	case !strings.Contains(text, "-\x00-\x00-"):
		return text
	case text[0] == 0:
		return fromUTF16(text, binary.BigEndian)
	default:
		return fromUTF16(text, binary.LittleEndian)
	}
}

// compact returns base64 without what may stand between its characters.
func compact(text string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case unicode.IsSpace(r), unicode.Is(unicode.Cf, r), strings.ContainsRune("\"'`\\,", r):
			return -1
		}
		return r
	}, text)
}

// decodeBase64 reads base64 or base64url (RFC 4648 §4, §5), with padding or without.
func decodeBase64(text string) (data []byte, ok bool) {
	text = strings.TrimRight(compact(text), "=")
	text = strings.NewReplacer("-", "+", "_", "/").Replace(text)
	data, err := base64.RawStdEncoding.DecodeString(text)
	return data, err == nil
}

// problemOfBase64 says why decodeBase64 could not read a block.
func problemOfBase64(text string) string {
	for _, r := range compact(text) {
		isBase64 := r < utf8.RuneSelf && (unicode.IsLetter(r) || unicode.IsDigit(r)) ||
			strings.ContainsRune("+/-_=", r)
		if !isBase64 {
			return fmt.Sprintf("has %q in it, which is not base64", r)
		}
	}
	return "is not whole: its base64 has a character too few or too many"
}

// labelOfDER tells what a file in DER is by its first bytes, and returns the label
// that it would have in PEM; "" for what is none of them.
func labelOfDER(der []byte) string {
	content := contentOfSequence(der)
	switch {
	case content == nil:
		return ""
	case hasPrefix(content, "\x02\x01\x03"): // version 3 (RFC 7292 §4)
		return labelPKCS12
	case hasPrefix(content, "\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x07"): // RFC 5652 §3
		return labelPKCS7
	case hasPrefix(content, "\x02\x01\x00\x30"): // RFC 5958 §2
		return labelKey
	case hasPrefix(content, "\x02\x01\x00\x02"): // RFC 8017 appendix A.1.2
		return labelRSAKey
	case hasPrefix(content, "\x02\x01\x01\x04"): // RFC 5915 §3
		return labelECKey
	}
	inner := contentOfSequence(content)
	switch {
	case hasPrefix(inner, "\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x05"), // PKCS#5
		hasPrefix(inner, "\x06\x0a\x2a\x86\x48\x86\xf7\x0d\x01\x0c"): // PKCS#12's PBE
		return labelEncryptedKey
	case hasPrefix(inner, "\xa0\x03\x02\x01"), hasPrefix(inner, "\x02"): // RFC 5280 §4.1
		return labelCert
	}
	return ""
}

func hasPrefix(b []byte, prefix string) bool { return strings.HasPrefix(string(b), prefix) }

// contentOfSequence returns what of a SEQUENCE's content is there (X.690 §8.1), or nil
// if der does not begin with one.
func contentOfSequence(der []byte) []byte {
	switch {
	case len(der) < 6 || der[0] != 0x30:
		return nil
	case der[1] <= 0x80: // the length itself, or BER without one
		return der[2:]
	case der[1] <= 0x83: // so many bytes of length
		return der[2+der[1]&0x7f:]
	}
	return nil
}

// The commands that make PEM of what is none. Each is run by a test.
const (
	convertPFX       = "`openssl pkcs12 -in old.pfx -aes256 -out new.pem`"
	convertLegacyPFX = "`openssl pkcs12 -legacy -in old.pfx -aes256 -out new.pem`"
	convertP7B       = "`openssl pkcs7 -print_certs -in old.p7b -out new.crt`"
	convertDERP7B    = "`openssl pkcs7 -inform der -print_certs -in old.p7b -out new.crt`"
	convertDERCert   = "`openssl x509 -inform der -in old.cer -out new.crt`"
	convertDERKey    = "`openssl pkey -inform der -in old.key -out new.key`"
)

// convertDER returns the command for a file in DER.
func convertDER(label string) string {
	switch label {
	case labelPKCS12:
		return convertPFX
	case labelPKCS7:
		return convertDERP7B
	case labelCert:
		return convertDERCert
	}
	return convertDERKey
}
