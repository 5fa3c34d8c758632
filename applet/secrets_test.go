package applet_test

import (
	"encoding/base64"
	"encoding/json"

	"github.com/stretchr/testify/require"

	"hsmemu/keystore"
)

// secretOf takes a part of a key out of its stored form.
func secretOf(t require.TestingT, k keystore.Key, part string) []byte {
	b, err := json.Marshal(k)
	require.NoError(t, err)
	var parts map[string]any
	require.NoError(t, json.Unmarshal(b, &parts))
	text, ok := parts[part].(string)
	require.True(t, ok, "no part %s", part)
	secret, err := base64.StdEncoding.DecodeString(text)
	require.NoError(t, err)
	return secret
}
