package engines

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nkeys"
)

// natsOperator is what a server is told that knows its accounts by signed tokens, as hosted NATS does: an operator who
// signs accounts, and an account that signs the one user of whom a client has the credentials.
type natsOperator struct {
	dir string
}

// credentials is the file that a client brings.
func (o natsOperator) credentials() string { return filepath.Join(o.dir, "millrace.creds") }

// configuration is the part of the server's configuration that the tokens make.
func (o natsOperator) configuration() string { return filepath.Join(o.dir, "operator.conf") }

// ensure makes both, unless they are there.
func (o natsOperator) ensure() error {
	if _, err := os.Stat(o.credentials()); err == nil {
		return nil
	}
	operator, operatorID, err := natsKey(nkeys.CreateOperator)
	if err != nil {
		return err
	}
	account, accountID, err := natsKey(nkeys.CreateAccount)
	if err != nil {
		return err
	}
	_, systemID, err := natsKey(nkeys.CreateAccount)
	if err != nil {
		return err
	}
	claims := jwt.NewOperatorClaims(operatorID)
	claims.Name, claims.SystemAccount = "engines", systemID
	operatorToken, err := claims.Encode(operator)
	if err != nil {
		return err
	}
	accountToken, err := natsAccount("millrace", accountID, true, operator)
	if err != nil {
		return err
	}
	systemToken, err := natsAccount("SYS", systemID, false, operator)
	if err != nil {
		return err
	}
	var b strings.Builder
	fmt.Fprintf(&b, "operator: %s\nsystem_account: %s\nresolver: MEMORY\n", operatorToken, systemID)
	fmt.Fprintf(&b, "resolver_preload { %s: %s\n%s: %s }\n", accountID, accountToken, systemID, systemToken)
	if err := writeFile(o.configuration(), []byte(b.String())); err != nil {
		return err
	}
	creds, err := natsCredentials(account)
	if err != nil {
		return err
	}
	return writeFile(o.credentials(), creds) // the last, since it says that both are there
}

func natsKey(create func() (nkeys.KeyPair, error)) (key nkeys.KeyPair, public string, err error) {
	if key, err = create(); err != nil {
		return nil, "", err
	}
	public, err = key.PublicKey()
	return key, public, err
}

func natsAccount(name, id string, jetstream bool, operator nkeys.KeyPair) (token string, err error) {
	claims := jwt.NewAccountClaims(id)
	claims.Name = name
	if jetstream {
		claims.Limits.JetStreamLimits = jwt.JetStreamLimits{
			MemoryStorage: jwt.NoLimit, DiskStorage: jwt.NoLimit, Streams: jwt.NoLimit, Consumer: jwt.NoLimit,
		}
	}
	return claims.Encode(operator)
}

// natsCredentials makes a user of an account, and the text of its credentials file.
func natsCredentials(account nkeys.KeyPair) ([]byte, error) {
	user, id, err := natsKey(nkeys.CreateUser)
	if err != nil {
		return nil, err
	}
	claims := jwt.NewUserClaims(id)
	claims.Name = natsUser
	token, err := claims.Encode(account)
	if err != nil {
		return nil, err
	}
	seed, err := user.Seed()
	if err != nil {
		return nil, err
	}
	return jwt.FormatUserConfig(token, seed)
}
