package live

import (
	"cmp"
	"context"
	"net/http"

	"github.com/millrace/millrace/pkg/access"
)

type credentialKey struct{}

// admit lets a request pass whose token has the scope, and notes whose it is.
func (l *Live) admit(r *http.Request, scope access.Scope) (*http.Request, error) {
	if l.deps.Auth == nil || scope == "" {
		return r, nil
	}
	secret := bearer(r)
	if secret == "" {
		return r, &fault{code: http.StatusUnauthorized, text: "this needs a token: send the header Authorization: Bearer <token>; `millrace token create` makes one"}
	}
	c, err := l.deps.Auth.Authenticate(secret)
	if err != nil {
		return r, &fault{code: http.StatusUnauthorized, text: "the token is not valid"}
	}
	if !c.May(scope) {
		return r, &fault{code: http.StatusForbidden, text: "the token does not have the scope " + string(scope)}
	}
	return r.WithContext(context.WithValue(r.Context(), credentialKey{}, c)), nil
}

// credential returns whose request it is, nil where nobody is asked.
func credential(ctx context.Context) *access.Credential {
	c, _ := ctx.Value(credentialKey{}).(*access.Credential)
	return c
}

// signed returns who asks for something, in words: who it was is the token's word, and what the body says comes before it.
func signed(ctx context.Context, by string) string {
	c := credential(ctx)
	if c == nil {
		return by
	}
	who := cmp.Or(c.Name, c.ID)
	if by == "" || by == who {
		return who
	}
	return by + " (" + who + ")"
}
