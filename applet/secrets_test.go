package applet_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"

	"github.com/stretchr/testify/require"

	"hsmemu/emulator/chip"
	"hsmemu/emulator/chiptest"
	"hsmemu/keystore"
)

// secretOf takes a part of a key out of its stored form.
func secretOf(t require.TestingT, k keystore.Key, part string) []byte {
	var parts map[string]any
	require.NoError(t, json.Unmarshal([]byte(stored(t, k)), &parts))
	text, ok := parts[part].(string)
	require.True(t, ok, "no part %s", part)
	secret, err := base64.StdEncoding.DecodeString(text)
	require.NoError(t, err)
	return secret
}

// window is how many bytes of a longer secret make a leak.
const window = 8

// secrets is everything that cards have had to keep to themselves.
type secrets struct {
	whole   map[string]bool // the short ones
	windows map[[window]byte]bool
	seen    map[string]bool
}

func newSecrets() *secrets {
	return &secrets{whole: map[string]bool{}, windows: map[[window]byte]bool{}, seen: map[string]bool{}}
}

// learn takes in the secrets of a state.
func (s *secrets) learn(t require.TestingT, d chip.Durable) {
	if form := stored(t, d); !s.seen[form] {
		s.seen[form] = true
		require.NoError(t, chiptest.Secrets(d, func(_ string, secret []byte) { s.add(secret) }))
	}
}

func (s *secrets) add(secret []byte) {
	if len(secret) <= 2*window {
		s.whole[string(secret)] = true
	}
	for ; len(secret) >= window; secret = secret[1:] {
		s.windows[[window]byte(secret)] = true
	}
}

// leak finds a secret in what somebody can see, be it as it is or in
// hexadecimal digits.
func (s *secrets) leak(visible []byte) []byte {
	upper := bytes.ToUpper(visible)
	for secret := range s.whole {
		if bytes.Contains(visible, []byte(secret)) || bytes.Contains(upper, fmt.Appendf(nil, "%X", secret)) {
			return []byte(secret)
		}
	}
	for ; len(visible) >= window; visible = visible[1:] {
		if s.windows[[window]byte(visible)] {
			return visible[:window]
		}
	}
	return nil
}

// check is invariant I8 for one step: what the card said and what it told
// observers holds no secret of the states before and after it.
func (s *secrets) check(t require.TestingT, before, after chip.Durable, result chip.Result) {
	for _, d := range append([]chip.Durable{before, after}, result.Commits...) {
		s.learn(t, d)
	}
	require.Nil(t, s.leak(result.Response), "a secret in the answer to %s", result.Event)
	event := fmt.Sprintf("%s\n%+v\n%#v", result.Event, result.Event, result.Event)
	require.Nil(t, s.leak([]byte(event)), "a secret in the event %s", result.Event)
}

// What prints, prints no secrets either: cards, keys and key domains within
// whatever they are in.
func checkPrinting(t require.TestingT, s *secrets, values ...any) {
	for _, v := range values {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%q"} {
			require.Nil(t, s.leak(fmt.Appendf(nil, verb, v)), "%s of %T", verb, v)
		}
	}
}
