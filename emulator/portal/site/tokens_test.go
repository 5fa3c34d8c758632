package site_test

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hsmemu/applet/apdu"
	"hsmemu/applet/client"
	"hsmemu/applet/cvc"
	"hsmemu/applet/pkcs15"
	"hsmemu/emulator"
	"hsmemu/emulator/chip"
	"hsmemu/emulator/portal/account"
	"hsmemu/emulator/portal/records"
	"hsmemu/emulator/ram"
	"hsmemu/keystore/curve"
)

// custodied makes a card that any required of the custodians unlock, without a user PIN
// of its own, and the cards of the custodians, each with the key that is registered.
func custodied(t testing.TB, serial string, required byte, custodians ...string) (token *emulator.Card, cards []*emulator.Card) {
	t.Helper()
	ctx := t.Context()
	token, err := emulator.NewCard(chip.Order{Serial: serial, Firmware: "4.1"}, emulator.System())
	require.NoError(t, err)
	k := client.New(token)
	_, err = k.Select(ctx)
	require.NoError(t, err)
	require.NoError(t, k.Initialise(ctx, client.Setup{Options: 1, SOPIN: soPIN, Custodians: byte(len(custodians)), Required: required}))
	on, known := curve.ByName("brainpoolP256r1")
	require.True(t, known)
	for i, name := range custodians {
		c := card(t, name, "4.1")
		own := client.New(c)
		request, err := own.GenerateEC(ctx, 1, on, client.KeySpec{Holder: cvc.Name(fmt.Sprintf("UTCUST%03d00001", i))})
		require.NoError(t, err)
		require.NoError(t, own.WriteFile(ctx, pkcs15.File(pkcs15.PrefixCertificate, 1), request.Raw))
		chain, err := own.Device(ctx)
		require.NoError(t, err)
		require.NoError(t, k.Trust(ctx, chain))
		_, err = k.RegisterKey(ctx, request)
		require.NoError(t, err)
		cards = append(cards, c)
	}
	require.NoError(t, token.Reset())
	return token, cards
}

// shown are the tokens of a trust center as programs read them.
type shown struct {
	Tokens []struct {
		ID                                           int64
		Path                                         string
		Connected, LoggedIn                          bool
		Registered, Required, Authenticated, Missing int
		Custodians                                   []struct {
			Name          string
			Authenticated bool
		}
		Keys []string
	}
	Awaits, RAMURL, Identified string
}

// enrolled is a program that has registered a card.
func (p *portal) enrolled(c *emulator.Card, email string) *program {
	p.t.Helper()
	v := p.program()
	var begun struct{ SessionID, RAMURL string }
	v.call(http.StatusCreated, "POST", "/api/sessions", nil, &begun)
	v.session = begun.SessionID
	_, err := p.connect(c, begun.RAMURL)
	require.NoError(p.t, err)
	v.call(http.StatusOK, "POST", "/api/sessions/current/enroll", object{"email": email}, nil)
	var mails []struct{ To, Body string }
	v.call(http.StatusOK, "GET", "/api/admin/outbox", nil, &mails)
	v.call(http.StatusOK, "POST", "/api/sessions/current/activate", object{"code": digits.FindString(mails[0].Body)}, nil)
	return v
}

// hsm connects a card at /rt/hsm, until the end of the test, and tells what it was told
// last when that ends.
func (p *portal) hsm(c *emulator.Card) <-chan string {
	ctx, end := context.WithCancel(p.t.Context())
	ended, gone := make(chan string, 1), make(chan struct{})
	go func() {
		var last ram.Notice
		_ = (&ram.Agent{Card: c, Notice: func(n ram.Notice) { last = n }}).Run(ctx, p.url+"/rt/hsm")
		ended <- last.Text
		close(gone)
	}()
	p.t.Cleanup(func() { end(); <-gone })
	return ended
}

// interrupted is a card before whose signatures something happens.
type interrupted struct {
	*emulator.Card
	first func()
}

func (i *interrupted) Transmit(ctx context.Context, command []byte) ([]byte, error) {
	if len(command) > 1 && command[1] == apdu.InsSign {
		i.first()
	}
	return i.Card.Transmit(ctx, command)
}

// A card that is registered is an HSM until its owner removes it, or a firmware update
// elsewhere makes another device of it.
func TestRegisteredToken_Gone(t *testing.T) {
	t.Parallel()
	for name, remove := range map[string]func(p *portal, owner *person, token account.Token){
		"removed": func(p *portal, owner *person, token account.Token) {
			owner.post(fmt.Sprintf("/se/tokens/%d/remove", token.ID), "last", "yes") // which ends the session, too
		},
		"superseded": func(p *portal, _ *person, token account.Token) {
			require.NoError(t, p.Records.Write(t.Context(), func(tx *records.Tx) error { return account.Supersede(tx, token.Path) }))
		},
	} {
		p := open(t)
		owner, c := p.person(), card(t, "DENK0000001", "4.1")
		owner.register(c, "owner@example.org")
		ended := p.hsm(c)
		require.Eventually(t, func() bool { return len(paths(p)) == 1 }, patience, 10*time.Millisecond)
		a, err := p.Accounts.AccountByEmail(t.Context(), "owner@example.org")
		require.NoError(t, err)
		active := func() (list []account.Token) {
			all, err := p.Accounts.Tokens(t.Context(), a.ID)
			require.NoError(t, err)
			return slices.DeleteFunc(all, func(t account.Token) bool { return t.Status != account.Active })
		}
		require.Len(t, active(), 1)
		remove(p, owner, active()[0])
		require.Empty(t, active(), name)
		require.Empty(t, paths(p), name)
		require.Contains(t, <-ended, "This token was removed", name)
		state, err := client.New(c).PINStatus(t.Context(), client.UserPIN)
		require.NoError(t, err)
		require.NotEqual(t, client.Verified, state.State, name)
	}
}

// paths are the HSMs that are connected, for programs that may use all.
func paths(p *portal) (list []string) {
	for _, c := range p.Connections() {
		list = append(list, c.Path)
	}
	return list
}

// A trust center's token is unlocked by two of three custodians, each with a card and a
// session of their own: PORTAL-19.
func TestCenterTokens(t *testing.T) {
	t.Parallel()
	p := open(t)
	token, custodians := custodied(t, "DENK0000010", 2, "DENK0000001", "DENK0000002", "DENK0000003")
	const path = "/UTSRCAEM1/UTDICAEM01/DENK0000010"
	p.enrolled(card(t, "DENK0000009", "4.1"), "admin@example.org") // who comes first may do everything
	manager := p.enrolled(custodians[0], "manager@example.org")
	officer := p.enrolled(custodians[1], "officer@example.org")
	stranger := p.enrolled(custodians[2], "stranger@example.org")
	var request struct{ ID int64 }
	manager.call(http.StatusCreated, "POST", "/api/servicerequests", object{"type": "CreateTrustCenter", "data": object{"name": "Acme"}}, &request)
	var made struct{ Data struct{ Center int64 } }
	manager.call(http.StatusOK, "POST", fmt.Sprintf("/api/servicerequests/%d/submit", request.ID), object{}, &made)
	at := fmt.Sprintf("/api/trustcenters/%d/tokens", made.Data.Center)
	require.NoError(t, p.grant("officer@example.org", "Certification Officer", made.Data.Center))

	// Nobody without a role sees or does anything.
	p.program().call(http.StatusUnauthorized, "GET", at, nil, nil)
	stranger.call(http.StatusForbidden, "GET", at, nil, nil)
	for _, what := range []string{"identify", "add", "remove", "authenticate", "logout"} {
		stranger.call(http.StatusForbidden, "POST", at+"/"+what, object{"token": 1}, nil)
	}
	officer.call(http.StatusForbidden, "POST", at+"/identify", object{}, nil)
	var now shown
	officer.call(http.StatusOK, "GET", at, nil, &now)
	require.Empty(t, now.Tokens)

	// A card that is in no trust center is no HSM; one that has no user PIN is identified
	// and added all the same.
	require.Error(t, (&ram.Agent{Card: token}).Run(t.Context(), p.url+"/rt/hsm"))
	manager.call(http.StatusNotFound, "POST", at+"/add", object{}, nil)
	manager.call(http.StatusOK, "POST", at+"/identify", object{}, &now)
	require.Equal(t, "identify", now.Awaits)
	said, err := p.connect(token, now.RAMURL)
	require.NoError(t, err)
	require.Equal(t, "Identified as "+path, said[len(said)-1].Text)
	manager.call(http.StatusOK, "GET", at, nil, &now)
	require.Empty(t, now.Awaits)
	require.Equal(t, path, now.Identified)
	require.Empty(t, now.Tokens)
	manager.call(http.StatusOK, "POST", at+"/add", object{}, &now)
	require.Len(t, now.Tokens, 1)
	require.False(t, now.Tokens[0].Connected)
	manager.call(http.StatusNotFound, "POST", at+"/add", object{}, nil)

	// It is connected, and waits for its custodians.
	ended := p.hsm(token)
	see := func() shown {
		var now shown
		officer.call(http.StatusOK, "GET", at, nil, &now)
		return now
	}
	require.Eventually(t, func() bool { return see().Tokens[0].Connected }, patience, 10*time.Millisecond)
	now = see()
	require.False(t, now.Tokens[0].LoggedIn)
	require.Equal(t, []int{3, 2, 0, 0}, []int{now.Tokens[0].Registered, now.Tokens[0].Required, now.Tokens[0].Authenticated, now.Tokens[0].Missing})
	choice := object{"token": now.Tokens[0].ID}

	// A Manager who has no other role does not unlock it.
	manager.call(http.StatusForbidden, "POST", at+"/authenticate", choice, nil)
	require.NoError(t, p.grant("manager@example.org", "Operator", made.Data.Center))
	manager.call(http.StatusOK, "POST", at+"/authenticate", choice, &now)
	require.Equal(t, "authenticate", now.Awaits)
	// Whoever cancels, cancels what the own session awaits.
	stranger.call(http.StatusForbidden, "POST", at+"/cancel", object{}, nil)
	officer.call(http.StatusOK, "POST", at+"/cancel", object{}, nil)
	manager.call(http.StatusOK, "GET", at, nil, &now)
	require.Equal(t, "authenticate", now.Awaits)
	// A card whose key is not registered, and one whose PIN was not presented.
	said, err = p.connect(card(t, "DENK0000004", "4.1"), now.RAMURL)
	require.Error(t, err)
	require.Contains(t, said[len(said)-1].Text, "no key of it is registered")
	require.NoError(t, custodians[0].Reset())
	said, err = p.connect(custodians[0], now.RAMURL)
	require.Error(t, err)
	require.Contains(t, said[len(said)-1].Text, "user PIN of the custodian's card was not verified")
	require.Zero(t, see().Tokens[0].Authenticated)
	k := client.New(custodians[0])
	_, err = k.Select(t.Context())
	require.NoError(t, err)
	require.NoError(t, k.VerifyPIN(t.Context(), client.UserPIN, userPIN))
	said, err = p.connect(custodians[0], now.RAMURL)
	require.NoError(t, err)
	require.Equal(t, "Key authenticated, 1 of 2", said[len(said)-1].Text)
	require.False(t, see().Tokens[0].LoggedIn, "one is not enough")
	manager.call(http.StatusOK, "POST", at+"/authenticate", choice, &now)
	said, err = p.connect(custodians[0], now.RAMURL)
	require.Error(t, err, "nobody counts twice")
	require.Contains(t, said[len(said)-1].Text, "no key of it is registered")
	require.Equal(t, 1, see().Tokens[0].Authenticated)

	officer.call(http.StatusOK, "POST", at+"/authenticate", choice, &now)
	said, err = p.connect(custodians[1], now.RAMURL)
	require.NoError(t, err)
	require.Equal(t, "Key authenticated, 2 of 2", said[len(said)-1].Text)
	now = see()
	require.True(t, now.Tokens[0].LoggedIn)
	require.Equal(t, 2, now.Tokens[0].Authenticated)
	require.Equal(t, "UTCUST00100001", now.Tokens[0].Custodians[1].Name)
	require.True(t, now.Tokens[0].Custodians[1].Authenticated)
	require.False(t, now.Tokens[0].Custodians[2].Authenticated)
	manager.call(http.StatusOK, "POST", at+"/authenticate", choice, &now)
	said, err = p.connect(custodians[0], now.RAMURL)
	require.Error(t, err)
	require.Contains(t, said[len(said)-1].Text, "enough keys have been authenticated")
	require.True(t, see().Tokens[0].LoggedIn, "which changed nothing")
	manager.call(http.StatusOK, "POST", at+"/cancel", object{}, &now)
	require.Empty(t, now.Awaits)

	officer.call(http.StatusOK, "POST", at+"/logout", choice, &now)
	require.True(t, now.Tokens[0].Connected)
	require.False(t, now.Tokens[0].LoggedIn)
	require.Zero(t, now.Tokens[0].Authenticated)
	officer.call(http.StatusOK, "POST", at+"/authenticate", choice, &now)
	_, err = p.connect(custodians[1], now.RAMURL)
	require.NoError(t, err)
	require.Equal(t, 1, see().Tokens[0].Authenticated)

	// It is removed while a custodian answers, who would have been the second: he reads why
	// nothing came of it, and it is an HSM no longer, locked again.
	require.Equal(t, []string{path}, paths(p))
	officer.call(http.StatusForbidden, "POST", at+"/remove", choice, nil)
	manager.call(http.StatusOK, "POST", at+"/authenticate", choice, &now)
	var told ram.Notice
	err = (&ram.Agent{Card: &interrupted{custodians[0], sync.OnceFunc(func() {
		manager.call(http.StatusOK, "POST", at+"/remove", choice, &now)
	})}, Notice: func(n ram.Notice) { told = n }}).Run(t.Context(), now.RAMURL)
	require.Error(t, err)
	require.Equal(t, "The key was not authenticated: the token is no longer there", told.Text)
	require.Empty(t, now.Tokens)
	require.Empty(t, paths(p))
	require.Contains(t, <-ended, "This token was removed")
	status, err := client.New(token).KeyAuthentication(t.Context())
	require.NoError(t, err)
	require.Zero(t, status.Authenticated)
	officer.call(http.StatusNotFound, "POST", at+"/authenticate", choice, nil)
	officer.call(http.StatusNotFound, "POST", at+"/logout", choice, nil)

	log := strings.Join(p.lines(), "\n")
	for _, line := range []string{
		"/UTSRCAEM1/UTDICAEM01/DENK0000001 identify token: " + path + ": ",
		"/UTSRCAEM1/UTDICAEM01/DENK0000001 add token: " + path + ": of Acme",
		"/UTSRCAEM1/UTDICAEM01/DENK0000001 authenticate: " + path + ": key UTCUST00000001 of /UTSRCAEM1/UTDICAEM01/DENK0000001",
		"/UTSRCAEM1/UTDICAEM01/DENK0000002 authenticate: " + path + ": key UTCUST00100001 of /UTSRCAEM1/UTDICAEM01/DENK0000002",
		"/UTSRCAEM1/UTDICAEM01/DENK0000002 log out token: " + path + ": ",
		"/UTSRCAEM1/UTDICAEM01/DENK0000001 remove token: " + path + ": of Acme",
	} {
		require.Contains(t, log, line)
	}
}

// grant gives somebody a role in a trust center, as its Manager does.
func (p *portal) grant(email string, role account.Role, center int64) error {
	a, err := p.Accounts.AccountByEmail(p.t.Context(), email)
	require.NoError(p.t, err)
	manager, err := p.Accounts.AccountByEmail(p.t.Context(), "manager@example.org")
	require.NoError(p.t, err)
	return p.Accounts.Grant(p.t.Context(), account.Actor{Account: manager.ID}, account.Grant{Account: a.ID, Role: role, Subject: center})
}
