package site

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"

	"hsmemu/applet/cvc"
	"hsmemu/emulator/portal/account"
	"hsmemu/emulator/portal/cloudhsm"
	"hsmemu/emulator/portal/service"
	"hsmemu/emulator/ram"
)

// What the person at the card of a custodian is told.
const (
	textAuthenticated = "Key authenticated, %d of %d"
	textNotUnlocked   = "The key was not authenticated: "
)

// serveCard serves a card at /rt/paas: one that a session awaits for a trust center does
// what it is awaited for, and package service knows what is done with others.
func (p *Portal) serveCard(ctx context.Context, card *ram.Session) error {
	w, _, err := p.Accounts.AwaitedBy(ctx, card.ID())
	switch {
	case err == nil && w.Purpose == account.Identify:
		return p.Accounts.Identify(ctx, card)
	case err == nil && w.Purpose == account.Authenticate:
		return p.unlock(ctx, card, w.Token)
	}
	return p.Service.Serve(ctx, card) // which tells where the records fail
}

// unlock has the card of a custodian answer for a key that is registered on a token of a
// trust center.
func (p *Portal) unlock(ctx context.Context, card *ram.Session, token account.Token) error {
	now, err := p.hsms.Authenticate(ctx, cloudhsm.Name(token.Path), card, func(device string, key cvc.Name) error {
		err := p.Accounts.Unlocking(ctx, card.ID(), token, device, string(key))
		if errors.Is(err, account.ErrNoToken) {
			return fmt.Errorf("%w: %w", cloudhsm.ErrNotAdmitted, err)
		}
		return err
	})
	if err != nil {
		_ = card.Notify(ctx, ram.Notice{Number: -1, Text: textNotUnlocked + cloudhsm.Plain(err)}) // the client may have gone
		return fmt.Errorf("authenticate to %s: %w", token.Path, err)
	}
	return card.Notify(ctx, ram.Notice{Text: fmt.Sprintf(textAuthenticated, now.Authenticated, now.Required)})
}

// custodian is a key that is registered on a token for public key authentication.
type custodian struct {
	Name          string `json:"name"`
	Authenticated bool   `json:"authenticated"`
}

// centerToken is a token of a trust center with its connection.
type centerToken struct {
	ID        int64  `json:"id"`
	Path      string `json:"path"`
	Connected bool   `json:"connected"`
	LoggedIn  bool   `json:"loggedIn"`
	// Registered keys can authenticate, Required have to, Authenticated have, and Missing
	// ones are not registered yet; all are 0 without public key authentication.
	Registered    int `json:"registered"`
	Required      int `json:"required"`
	Authenticated int `json:"authenticated"`
	Missing       int `json:"missing"`
	// Custodians are the keys that are registered, and Keys the labels of those that the
	// token has for signing, while it is logged in.
	Custodians []custodian `json:"custodians"`
	Keys       []string    `json:"keys"`
}

// tokensOf are the tokens of a trust center with their connections.
func (s *site) tokensOf(ctx context.Context, by account.Actor, center int64) ([]centerToken, error) {
	known, err := s.Accounts.CenterTokens(ctx, by, center)
	if err != nil {
		return nil, err
	}
	connected := s.HSMs.Connections()
	list := []centerToken{}
	for _, t := range known {
		c := centerToken{ID: t.ID, Path: t.Path, Custodians: []custodian{}, Keys: []string{}}
		if i := slices.IndexFunc(connected, func(h cloudhsm.Connection) bool { return h.Path == t.Path }); i >= 0 {
			h := connected[i]
			c.Connected, c.LoggedIn, c.Keys = true, h.LoggedIn, append(c.Keys, h.Keys...)
			c.Registered, c.Missing = h.Custody.Total-h.Custody.Missing, h.Custody.Missing
			c.Required, c.Authenticated = h.Custody.Required, h.Custody.Authenticated
			for _, k := range h.Custodians {
				if k.Name != "" {
					c.Custodians = append(c.Custodians, custodian{string(k.Name), k.Authenticated})
				}
			}
		}
		list = append(list, c)
	}
	return list, nil
}

// centerTokens is the page of a trust center's tokens.
func (s *site) centerTokens(w http.ResponseWriter, r *http.Request, p account.Session) error {
	id, err := of(r)
	if err != nil {
		return err
	}
	v := struct {
		view
		Subject                    account.Subject
		Tokens                     []centerToken
		MayAssign, MayAuthenticate bool
		// Awaits, Unlocks and Identified are what the session awaits for this trust center.
		Awaits              account.Purpose
		Unlocks, Identified string
		RAM, HSM            string
	}{HSM: s.base(r) + ram.Prefix + "hsm"}
	if v.Subject, err = s.Accounts.Subject(r.Context(), p.Actor(), id); err != nil {
		return err
	}
	v.view = s.view(r, p, "Tokens of "+v.Subject.Name)
	if v.Tokens, err = s.tokensOf(r.Context(), p.Actor(), id); err != nil {
		return err
	}
	v.MayAssign, v.MayAuthenticate = p.Account.May(account.AssignToken, id), p.Account.May(account.AuthenticateToken, id)
	cookie, err := r.Cookie(s.cookie())
	if err != nil {
		return account.ErrNoSession
	}
	waits, err := s.Accounts.Awaited(r.Context(), cookie.Value)
	if err != nil {
		return err
	}
	if waits.Center == id {
		v.Awaits, v.Unlocks, v.Identified, v.RAM = waits.Purpose, waits.Token.Path, waits.Identified.Path, s.ramURL(r, cookie.Value)
	}
	show(w, http.StatusOK, "center-tokens", v)
	return nil
}

// changeTokens does what a button of the page of a trust center's tokens says.
func (s *site) changeTokens(w http.ResponseWriter, r *http.Request, p account.Session) error {
	id, err := of(r)
	if err != nil {
		return err
	}
	cookie, err := r.Cookie(s.cookie())
	if err != nil {
		return account.ErrNoSession
	}
	token, err := number(r.PostFormValue("token"))
	if err != nil {
		return err
	}
	if err := s.tokenStep(r.Context(), cookie.Value, p, id, token, r.PathValue("what")); err != nil {
		return err
	}
	http.Redirect(w, r, "/se/subjects/"+strconv.FormatInt(id, 10)+"/tokens", http.StatusSeeOther)
	return nil
}

// tokenStep does something with the tokens of a trust center, in the session of a
// cookie. Error: service.ErrUnknown for a step that there is not.
func (s *site) tokenStep(ctx context.Context, cookie string, p account.Session, center, token int64, what string) error {
	switch what {
	case "identify":
		return s.Accounts.AwaitToIdentify(ctx, cookie, center)
	case "add":
		_, err := s.Accounts.AddToken(ctx, cookie, center)
		return err
	case "remove":
		return s.Accounts.RemoveCenterToken(ctx, p.Actor(), center, token)
	case "authenticate":
		return s.Accounts.AwaitToAuthenticate(ctx, cookie, center, token)
	case "logout":
		t, err := s.Accounts.Locking(ctx, p.Actor(), center, token)
		if err != nil {
			return err
		}
		return s.HSMs.Logout(ctx, cloudhsm.Name(t.Path))
	case "cancel":
		return s.Accounts.AwaitNothing(ctx, cookie)
	}
	return service.ErrUnknown
}

// tokensJSON is what programs read of a trust center's tokens.
type tokensJSON struct {
	Tokens []centerToken `json:"tokens"`
	// Awaits is what the session awaits a card for, at RAMURL; Identified is the path of
	// the one that can be added.
	Awaits     account.Purpose `json:"awaits"`
	RAMURL     string          `json:"ramUrl,omitempty"`
	Identified string          `json:"identified,omitempty"`
}

// tokensAPI is the answer of every request about the tokens of a trust center.
func (s *site) tokensAPI(r *http.Request, session string, p account.Session, center int64) (int, any, error) {
	var out tokensJSON
	var err error
	if out.Tokens, err = s.tokensOf(r.Context(), p.Actor(), center); err != nil {
		return 0, nil, err
	}
	waits, err := s.Accounts.Awaited(r.Context(), session)
	if err != nil {
		return 0, nil, err
	}
	if waits.Center == center {
		out.Awaits, out.Identified = waits.Purpose, waits.Identified.Path
		if waits.Purpose != "" {
			out.RAMURL = s.ramURL(r, session)
		}
	}
	return http.StatusOK, out, nil
}

// apiTokens registers what programs do with the tokens of trust centers.
func (s *site) apiTokens() {
	s.read("/api/trustcenters/{id}/tokens", s.reply(s.by(func(r *http.Request, session string, p account.Session) (int, any, error) {
		id, err := of(r)
		if err == nil && p.State != account.LoggedIn {
			err = account.ErrNotLoggedIn
		}
		if err != nil {
			return 0, nil, err
		}
		return s.tokensAPI(r, session, p, id)
	})))
	s.pages.Change("/api/trustcenters/{id}/tokens/{what}", s.reply(s.by(func(r *http.Request, session string, p account.Session) (int, any, error) {
		id, err := of(r)
		if err == nil && p.State != account.LoggedIn {
			err = account.ErrNotLoggedIn
		}
		var in struct {
			Token int64 `json:"token"`
		}
		if err == nil {
			err = decode(r, &in)
		}
		if err == nil {
			err = s.tokenStep(r.Context(), session, p, id, in.Token, r.PathValue("what"))
		}
		if err != nil {
			return 0, nil, err
		}
		return s.tokensAPI(r, session, p, id)
	})))
}
