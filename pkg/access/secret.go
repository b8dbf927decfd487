package access

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"fmt"
	"math/big"
	"strings"
)

// A secret is "mr_", the look-up id, "_", and 256 random bits in base 62. The prefix lets scanners find leaked ones.
const (
	secretPrefix = "mr"
	idBytes      = 6
	secretBytes  = 32
)

// newSecret returns a fresh secret and its look-up id.
func newSecret() (secret, id string, err error) {
	b := make([]byte, idBytes+secretBytes)
	if _, err := rand.Read(b); err != nil {
		return "", "", fmt.Errorf("draw a secret: %w", err)
	}
	const base, width = 62, 43 // 62^43 > 2^256
	id = hex.EncodeToString(b[:idBytes])
	text := new(big.Int).SetBytes(b[idBytes:]).Text(base)
	text = strings.Repeat("0", max(0, width-len(text))) + text
	return secretPrefix + "_" + id + "_" + text, id, nil
}

func hash(secret string) string {
	sum := sha256.Sum256([]byte(secret))
	return hex.EncodeToString(sum[:])
}

// lookupID returns the id in a secret, "" where it has not the form of one.
func lookupID(secret string) string {
	parts := strings.Split(secret, "_")
	if len(parts) != 3 || parts[0] != secretPrefix {
		return ""
	}
	return parts[1]
}

// matches compares in constant time.
func (c *Credential) matches(secret string) bool {
	return subtle.ConstantTimeCompare([]byte(hash(secret)), []byte(c.Hash)) == 1
}
