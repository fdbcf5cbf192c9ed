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

// encryptedCachePurpose is authenticated with the content, as additional data. A key may
// also be in use for another purpose. Without the additional data, a message that was
// encrypted for that purpose would pass for the content of a cache.
const encryptedCachePurpose = "\x01cdfauth token cache"

// errNotOurCiphertext is the error of content that cannot be decrypted. Which of the three
// it is cannot be told.
var errNotOurCiphertext = errors.New(
	"cdfauth: EncryptCache: the content was made with another key or none, or was changed")

// encryptedCache is a Cache whose content another Cache keeps, encrypted.
type encryptedCache struct {
	cache Cache

	// cipher returns the cipher. The cipher is kept inside a function so that printing
	// the cache does not show the key.
	cipher func() cipher.AEAD
}

// EncryptCache returns a Cache that keeps its content in c, encrypted with
// AES-256-GCM. It fails if c is nil or if key does not have 32 bytes.
//
// The key is 32 random bytes that the caller keeps elsewhere, such as in the system's
// key store. EncryptCache copies it. If the content in c was made with another key or with
// none, or was changed, Get and Update fail, and the content stays as it is. EncryptCache
// cannot notice that somebody removed the content, or put older content back, which was
// made with the key too.
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
			// The same content, encrypted once more, would differ and be written.
			return stored, nil
		}
		return c.encrypt(content), nil
	})
}

// encrypt returns what is stored for content.
func (c *encryptedCache) encrypt(content []byte) []byte {
	version := []byte{encryptedCacheVersion}
	return c.cipher().Seal(version, nil, content, []byte(encryptedCachePurpose))
}

// decrypt returns the content that encrypt got, or nil if nothing is stored.
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
