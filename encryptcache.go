//go:build go1.24

package cdfauth

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"errors"
	"fmt"
)

// This file encrypts what a Cache stores, for a store that others can read or
// change: a database, a shared folder, a backup. The cipher is AES-256-GCM (NIST
// SP 800-38D). What is stored is one byte that names this format, a random nonce of
// 12 bytes, the ciphertext, and a tag of 16 bytes.

// encryptedCacheKeySize is the length of an AES-256 key, in bytes.
const encryptedCacheKeySize = 32

// encryptedCacheVersion is the first byte of what is stored.
const encryptedCacheVersion = 1

// encryptedCachePurpose is authenticated with the content, as additional data. The
// key may be in use elsewhere: without it, a message of another purpose would pass
// for the content of a cache.
const encryptedCachePurpose = "\x01cdfauth token cache"

var errNotOurCiphertext = errors.New(
	"cdfauth: EncryptCache: the content was made with another key or none, or was changed")

// encryptedCache is a Cache whose content another Cache keeps, encrypted.
type encryptedCache struct {
	cache Cache

	// cipher returns the cipher. A function is how the key is kept from whoever
	// prints the cache.
	cipher func() cipher.AEAD
}

// EncryptCache returns a Cache that keeps its content in c, encrypted with
// AES-256-GCM.
//
// The key is 32 random bytes that the caller keeps elsewhere, such as in the system's
// key store; EncryptCache copies it. Content that was made with another key or with
// none, or that was changed, is an error of Get and Update, and stays as it is.
// EncryptCache cannot notice that somebody removed the content or put older content
// back, because that was made with the key too.
func EncryptCache(c Cache, key []byte) (Cache, error) {
	if c == nil {
		return nil, errors.New("cdfauth: EncryptCache: c is nil: want a Cache")
	}
	if len(key) != encryptedCacheKeySize {
		return nil, fmt.Errorf("cdfauth: EncryptCache: key has %d bytes: want %d random ones",
			len(key), encryptedCacheKeySize)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("cdfauth: EncryptCache: %w", err)
	}
	// This mode draws the nonces itself, as FIPS 140-3 demands.
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		return nil, fmt.Errorf("cdfauth: EncryptCache: %w", err)
	}
	return &encryptedCache{c, func() cipher.AEAD { return aead }}, nil
}

// Get returns the content, decrypted.
func (c *encryptedCache) Get(ctx context.Context) ([]byte, error) {
	stored, err := c.cache.Get(ctx)
	if err != nil {
		return nil, err
	}
	return c.decrypt(stored)
}

// Update implements [Cache].
func (c *encryptedCache) Update(
	ctx context.Context,
	f func(ctx context.Context, old []byte) (new []byte, err error),
) error {
	if err := checkCacheCall(ctx, f != nil); err != nil {
		return err
	}
	return c.cache.Update(ctx, func(ctx context.Context, stored []byte) ([]byte, error) {
		old, err := c.decrypt(stored)
		if err != nil {
			return nil, err
		}
		// f may write into what it gets.
		content, err := f(ctx, bytes.Clone(old))
		if err != nil || len(content) == 0 {
			return nil, err
		}
		if bytes.Equal(content, old) {
			// Encrypted anew, equal content would differ, and be written.
			return stored, nil
		}
		return c.encrypt(content), nil
	})
}

func (c *encryptedCache) encrypt(content []byte) []byte {
	version := []byte{encryptedCacheVersion}
	return c.cipher().Seal(version, nil, content, []byte(encryptedCachePurpose))
}

// decrypt returns the content of what encrypt made. Nothing stored is no content.
func (c *encryptedCache) decrypt(stored []byte) ([]byte, error) {
	if len(stored) == 0 {
		return nil, nil
	}
	if stored[0] != encryptedCacheVersion {
		return nil, errNotOurCiphertext
	}
	content, err := c.cipher().Open(nil, nil, stored[1:], []byte(encryptedCachePurpose))
	if err != nil {
		return nil, errNotOurCiphertext
	}
	return content, nil
}
