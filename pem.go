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
	// der is the content; nil if it cannot be decoded, or if rfc1421 is set.
	der []byte
	// rfc1421 is what stands between BEGIN and END if the block is encrypted as RFC
	// 1421 §4.6.1.1 describes; "" if it is not.
	rfc1421 string
	// problem says why the block cannot be read, as the end of a sentence; "" if it
	// can.
	problem string
}

// Labels of RFC 7468 and of OpenSSL.
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
	labelPKCS12       = "PKCS12"              // of ours, since PKCS#12 has no PEM
)

// knownLabels are those that cutLabel mends.
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
			" perhaps by a program that keeps only one line of a value", label)
		return block, text[len(body):]
	}
	endLabel, rest := cutLabel(end)
	if endLabel != label {
		// What stands behind END instead may be of a key, and is not shown.
		block.problem = fmt.Sprintf("does not end with -----END %s-----", label)
		return block, rest
	}
	if strings.Contains(body, "Proc-Type") && strings.Contains(body, "ENCRYPTED") {
		block.rfc1421 = body
		return block, rest
	}
	body = dropHeaders(body)
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

// cutLabel returns the label that text begins with, and the text behind the hyphens
// that follow it. In a known label it mends the blanks: ECPRIVATEKEY is EC PRIVATE KEY.
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

// dropHeaders returns the body of a block without its headers (RFC 1421 §4.6). They
// are the lines at its beginning with a colon, which base64 never has.
func dropHeaders(body string) string {
	for {
		body = strings.TrimLeft(body, " \t\r\n")
		line, next, found := strings.Cut(body, "\n")
		if !found || !strings.Contains(line, ":") {
			return body
		}
		body = next
	}
}

// repairText undoes what programs do to a whole text. In a string of JSON or YAML they
// write a line break, a tab, a slash, a plus or an equals sign as an escape. Editors
// and web pages add invisible characters. Bytes that are not UTF-8 stay as they are,
// so that a file in DER is still recognised.
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

// compact returns base64 without what is no part of it: white space, invisible
// characters, quotes, and what stands between the lines of a string in source text.
func compact(text string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case unicode.IsSpace(r), unicode.Is(unicode.Cf, r), strings.ContainsRune("\"'`\\,", r):
			return -1
		}
		return r
	}, text)
}

// decodeBase64 reads base64 or base64url (RFC 4648 §4, §5), with padding or without. If
// it is not ok, data is what stands before the damage.
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

// labelOfDER recognises a key, certificate or container in DER by its first bytes, and
// returns the label that it would have in PEM; "" for everything else.
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

// hasPrefix reports whether b begins with the bytes of prefix.
func hasPrefix(b []byte, prefix string) bool { return strings.HasPrefix(string(b), prefix) }

// contentOfSequence returns the content of the SEQUENCE that der begins with (X.690
// §8.1), as far as der has it. It returns nil if der does not begin with one.
func contentOfSequence(der []byte) []byte {
	switch {
	case len(der) < 6 || der[0] != 0x30:
		return nil
	case der[1] <= 0x80: // this byte is the length, or says that BER has none
		return der[2:]
	case der[1] <= 0x83: // the length is in the next one, two or three bytes
		return der[2+int(der[1]-0x80):]
	}
	return nil
}

// The commands that make PEM of other formats. A test runs each.
const (
	convertPFX       = "`openssl pkcs12 -in old.pfx -aes256 -out new.pem`"
	convertLegacyPFX = "`openssl pkcs12 -legacy -in old.pfx -aes256 -out new.pem`"
	convertP7B       = "`openssl pkcs7 -print_certs -in old.p7b -out new.crt`"
	convertDERP7B    = "`openssl pkcs7 -inform der -print_certs -in old.p7b -out new.crt`"
	convertDERCert   = "`openssl x509 -inform der -in old.cer -out new.crt`"
	convertDERKey    = "`openssl pkey -inform der -in old.key -out new.key`"
)

// convertDER returns the command that makes PEM of a file in DER. label is what
// labelOfDER calls it.
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
