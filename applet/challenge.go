package applet

import (
	"io"

	"hsmemu/applet/apdu"
)

// How many random bytes GET CHALLENGE gives: what a client asks for by number,
// up to the limit, and a default where it only asks for what there is.
const (
	challengeLimit   = 4096
	challengeDefault = 1024
	// challengeKept is the longest challenge kept for EXTERNAL AUTHENTICATE.
	challengeKept = 256
)

// getChallenge is GET CHALLENGE. Its answer is also the clients' source of
// randomness; as a challenge only the last one counts, and it starts public key
// authentication over again.
func getChallenge(t *tx, c apdu.Command) ([]byte, error) {
	n, exact := atMost(c)
	switch {
	case n == 0:
		return nil, apdu.WrongLength
	case !exact:
		n = min(n, challengeDefault)
	case n > challengeLimit:
		n = challengeLimit
	}
	out := make([]byte, n)
	if _, err := io.ReadFull(t.env.Rand, out); err != nil {
		return nil, err
	}
	t.s.Challenge = nil
	if n <= challengeKept {
		t.s.Challenge = out
	}
	t.s.custodians = t.s.custodians.restarted()
	t.s.Login = t.d.PINs.Authenticated(t.s.Login, 0)
	return out, nil
}
