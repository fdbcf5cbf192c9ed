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

// EncryptCache returns a Cache that keeps its content in c, encrypted with AES-256-GCM. The key, 32 random bytes that the caller keeps elsewhere (such as the
// system's key store), is copied. Content that was made with another key or none, or was changed, is an error of Get and Update and stays as it is. That somebody
// removed the content or put older content back is not noticed: it was made with the key too.
func EncryptCache(c Cache, key []byte) (Cache, error) {
	if c == nil || len(key) != 32 {
		return nil, fmt.Errorf("cdfauth: EncryptCache: a cache and a key of 32 bytes are wanted, not %T and %d bytes", c, len(key))
	}
	block, _ := aes.NewCipher(key)                 // which refuses other lengths alone
	aead, _ := cipher.NewGCMWithRandomNonce(block) // refuses no AES; draws the nonces itself, as FIPS 140 demands
	const sealed = "\x01cdfauth token cache"       // the content's first byte, its version, and with what it is for the additional data: the key may be in use elsewhere
	return &codedCache{c, func(stored []byte) ([]byte, error) {
		plain, err := aead.Open(nil, nil, stored[1:], []byte(sealed))
		if err != nil || stored[0] != sealed[0] {
			return nil, errors.New("cdfauth: EncryptCache: the content was made with another key or none, or was changed")
		}
		return plain, nil
	}, func(plain []byte) []byte { return aead.Seal([]byte(sealed[:1]), nil, plain, []byte(sealed)) }}, nil
}

type codedCache struct { // keeps what encode makes of its content, and decode undoes, in another
	cache  Cache
	decode func(stored []byte) ([]byte, error)
	encode func(plain []byte) []byte
}

func (c *codedCache) open(stored []byte, err error) ([]byte, error) {
	if err != nil || len(stored) == 0 {
		return nil, err
	}
	return c.decode(stored)
}

func (c *codedCache) Get(ctx context.Context) ([]byte, error) { return c.open(c.cache.Get(ctx)) }

func (c *codedCache) Update(ctx context.Context, f func(ctx context.Context, old []byte) (new []byte, err error)) error {
	if err := checkCall(ctx, f != nil); err != nil {
		return err
	}
	return c.cache.Update(ctx, func(ctx context.Context, old []byte) ([]byte, error) {
		plain, err := c.open(old, nil)
		if err != nil {
			return nil, err
		}
		now, err := f(ctx, bytes.Clone(plain))
		switch {
		case err != nil || len(now) == 0:
			return nil, err
		case bytes.Equal(now, plain):
			return old, nil // encrypted anew it would differ
		}
		return c.encode(now), nil
	})
}
