package pinstate_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"hsmemu/pinstate"
)

// traces are the forms in which a secret could show up in a text.
func traces(secret string) []string {
	decimal := strings.Trim(fmt.Sprint([]byte(secret)), "[]")
	octets := fmt.Sprintf("%#v", []byte(secret))
	return []string{
		secret, fmt.Sprintf("%x", secret), fmt.Sprintf("%X", secret), fmt.Sprintf("% x", secret), decimal,
		strings.TrimSuffix(strings.TrimPrefix(octets, "[]byte{"), "}"),
		fmt.Sprintf("%b", []byte(secret)), fmt.Sprintf("%o", []byte(secret)),
		base64.StdEncoding.EncodeToString([]byte(secret)),
	}
}

func TestSecrets_DoNotPrint(t *testing.T) {
	d := stateO().with(in(), drawn(session))
	verifying, err := d.Card.Verify(d.Login, pinstate.User, []byte(pin))
	require.NoError(t, err)
	changing, err := d.Card.Change(d.Login, pinstate.SO, []byte(code+newCode))
	require.NoError(t, err)
	initialising, err := stateF().Card.Initialise(order())
	require.NoError(t, err)
	_, _, wrong := changing.Settle()
	shown := []any{
		d.Card, &d.Card, d.Login, &d.Login, d, d.Card.User, d.Card.User.Value, &d.Card.User.Value,
		[]pinstate.Card{d.Card},
		map[string]pinstate.Login{"x": d.Login},
		order(), verifying, &verifying, changing, initialising,
		[]pinstate.Try{verifying},
		struct{ T pinstate.Try }{changing},
		fmt.Errorf("x: %v: %w", d, errors.Join(wrong)),
	}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "% x", "%d", "%o", "%b", "%c", "%U", "%T", "%t", "%20v", "%!"} {
		for _, v := range shown {
			text := fmt.Sprintf(verb, v)
			for _, secret := range []string{pin, newPIN, code, newCode, session} {
				for _, trace := range traces(secret) {
					require.NotContains(t, text, trace, "%s of %T", verb, v)
				}
			}
		}
	}
	require.Equal(t, "•••", fmt.Sprint(d.Card.User.Value))
	require.Equal(t, "•••", fmt.Sprintf("%x", pinstate.Value(nil)), "not even whether there is one")
	require.Equal(t, "pinstate.Try", fmt.Sprintf("%+v", verifying))
	require.Contains(t, fmt.Sprintf("%+v", d.Card), "•••")
}

func TestSecrets_DoNotLogAsText(t *testing.T) {
	var log bytes.Buffer
	slog.New(slog.NewTextHandler(&log, nil)).Info("x",
		"value", stateO().Card.User.Value, "card", stateO().Card, "setup", order())
	for _, secret := range []string{pin, newPIN, code} {
		for _, trace := range traces(secret) {
			require.NotContains(t, log.String(), trace)
		}
	}
	require.Contains(t, log.String(), "value=•••")
}

func TestErrors_HaveNoSecretAndOneForm(t *testing.T) {
	for _, err := range []error{
		pinstate.ErrUnset, pinstate.ErrBlocked, pinstate.ErrTransport, pinstate.ErrLength, pinstate.ErrRule,
		pinstate.ErrForbidden, pinstate.ErrKeysMissing, pinstate.ErrReference,
		pinstate.Wrong{Left: 2},
	} {
		require.Regexp(t, `^[^.]*[^. ]$`, err.Error())
	}
	require.Contains(t, pinstate.Wrong{Left: 12}.Error(), "12")
	require.NotErrorIs(t, pinstate.ErrUnset, pinstate.ErrReference)
}

func TestCard_RoundTripsThroughJSON(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := drawDesk(t)
		text, err := json.Marshal(d.Card)
		require.NoError(t, err)
		var back pinstate.Card
		require.NoError(t, json.Unmarshal(text, &back))
		require.Equal(t, d.Card, back)
		again, err := json.Marshal(back)
		require.NoError(t, err)
		require.Equal(t, string(text), string(again))
	})
}

// TestCard_JSONForm pins the form that stands in state files.
func TestCard_JSONForm(t *testing.T) {
	text, err := json.Marshal(stateT().with(u(1)).Card)
	require.NoError(t, err)
	require.JSONEq(t, `{
		"initialised": true, "options": 3,
		"so": {"value": "NTc2MjE4ODA=", "left": 15, "max": 15},
		"user": {"value": "NjQ4MjE5", "left": 1, "max": 3},
		"transport": true, "minLength": 6,
		"keys": {"total": 0, "required": 0}
	}`, string(text))
	text, err = json.Marshal(pinstate.Card{})
	require.NoError(t, err)
	require.JSONEq(t, `{
		"initialised": false, "options": 0,
		"so": {"value": null, "left": 0, "max": 0}, "user": {"value": null, "left": 0, "max": 0},
		"transport": false, "minLength": 0, "keys": {"total": 0, "required": 0}
	}`, string(text))

	var back pinstate.Card
	require.Error(t, json.Unmarshal([]byte(`{"user":{"value":"•••"}}`), &back), "what is shown is not a PIN")
}

// Shows PIN-11.
func TestOptions_InWords(t *testing.T) {
	for o, want := range map[pinstate.Options]string{
		0x0000: "none",
		0x0001: "reset with SO-PIN",
		0x0003: "reset with SO-PIN, transport PIN",
		0x003F: "reset with SO-PIN, transport PIN, session PIN, replaceable public keys, PIN and public keys, reset of the counter only",
		0x0021: "reset with SO-PIN, reset of the counter only",
		0x0104: "session PIN, unknown 0100",
		0x8000: "unknown 8000",
	} {
		require.Equal(t, want, o.String())
		require.Equal(t, want, fmt.Sprint(o))
	}
}

func TestOptions_Has(t *testing.T) {
	o := pinstate.OptionResetEnabled | pinstate.OptionResetOnly
	require.True(t, o.Has(pinstate.OptionResetOnly))
	require.True(t, o.Has(o))
	require.True(t, o.Has(0))
	require.False(t, o.Has(pinstate.OptionTransportPIN))
	require.False(t, o.Has(pinstate.OptionTransportPIN|pinstate.OptionResetEnabled), "all bits are asked for")
}

func ExampleCard_Verify() {
	card := pinstate.Card{
		Initialised: true,
		User:        pinstate.Reference{Value: pinstate.Value("648219"), Left: 3, Max: 3},
	}
	var login pinstate.Login
	try, err := card.Verify(login, pinstate.User, []byte("111111"))
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("to disk:", try.Charged().User)
	card, login, err = try.Settle()
	fmt.Println(err)
	fmt.Println(card.User, login.User)
	// Output:
	// to disk: {••• 2 3}
	// PIN not verified, tries left: 2
	// {••• 2 3} false
}
