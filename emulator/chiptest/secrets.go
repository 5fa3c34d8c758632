package chiptest

import (
	"encoding/base64"
	"encoding/json"
	"slices"
)

// secretParts are the names of what nobody may ever see of a card's stored form:
// parts of keys, key encryption keys, and PINs.
var secretParts = []string{"d", "p", "q", "qInverse", "key", "kek", "value"}

// Secrets finds what a card, or a part of one, has to keep to itself: the part's
// name in the stored form, and its bytes.
func Secrets(d any, found func(part string, secret []byte)) error {
	form, err := json.Marshal(d)
	if err != nil {
		return err
	}
	var tree any
	if err := json.Unmarshal(form, &tree); err != nil {
		return err
	}
	return findSecrets("", tree, found)
}

func findSecrets(name string, node any, found func(string, []byte)) (err error) {
	switch node := node.(type) {
	case map[string]any:
		for name, child := range node {
			if err := findSecrets(name, child, found); err != nil {
				return err
			}
		}
	case []any:
		for _, child := range node {
			if err := findSecrets("", child, found); err != nil {
				return err
			}
		}
	case string:
		if slices.Contains(secretParts, name) {
			var secret []byte
			if secret, err = base64.StdEncoding.DecodeString(node); err == nil {
				found(name, secret)
			}
		}
	}
	return err
}
