package tokenbroker

import (
	"context"

	"golang.org/x/oauth2"
)

// TokenSource returns the install's tokens as golang.org/x/oauth2 takes them, asked for by ctx. An oauth2.Token does
// not mask its value. There is no need to wrap it in oauth2.ReuseTokenSource, which would keep tokens past their
// rejection.
func (c *Client) TokenSource(ctx context.Context, installID string) oauth2.TokenSource {
	return tokenSource{client: c, ctx: ctx, installID: installID}
}

type tokenSource struct {
	client    *Client
	ctx       context.Context // as in golang.org/x/oauth2, whose interface has no room for one
	installID string
}

// Token implements oauth2.TokenSource.
func (s tokenSource) Token() (*oauth2.Token, error) {
	token, err := s.client.Token(s.ctx, s.installID)
	if err != nil {
		return nil, err
	}
	return &oauth2.Token{AccessToken: token.Reveal(), TokenType: token.Type, Expiry: token.Expiry}, nil
}
