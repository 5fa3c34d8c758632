package applet

import (
	"maps"
	"slices"

	"hsmemu/applet/apdu"
	"hsmemu/applet/pkcs15"
	"hsmemu/applet/sm"
	"hsmemu/keystore"
	"hsmemu/pinstate"
)

// tx is what a handler works on: the state to read and to change, and the
// environment. Durable changes stand at the next barrier or when the command
// succeeds; an error takes them back. Changes to the session stand at once,
// since a failed command may end a login.
type tx struct {
	env     Env
	profile *Profile
	d       Durable
	s       Session

	// success is the word of an answer that is no refusal: 9000, unless the handler
	// has another, such as the end of a file.
	success apdu.SW

	before  Durable
	changed bool
	commits []Durable
	subject string
	secure  bool
	// plain is the command without its secure messaging; reply is the channel
	// it came through, if it came through one.
	plain apdu.Command
	reply sm.Channel
}

// change announces a durable change; the first one keeps the state to go back
// to.
func (t *tx) change() *Durable {
	if !t.changed {
		t.before, t.changed = t.d, true
	}
	return &t.d
}

// barrier makes what has been changed so far stand, whatever follows. It is
// called after a try was charged or a key use was counted, before the secret
// is looked at.
func (t *tx) barrier() { t.commit() }

func (t *tx) commit() {
	if t.changed {
		t.commits = append(t.commits, t.d)
		t.changed = false
	}
}

func (t *tx) rollback() {
	if t.changed {
		t.d, t.changed = t.before, false
	}
}

// attempt runs a PIN command through its two halves: the charge becomes
// durable, then the secret is compared.
func (t *tx) attempt(try pinstate.Try, err error) error {
	if err != nil {
		return err
	}
	if try.Charges() {
		t.change().PINs = try.Charged()
		t.barrier()
	}
	card, login, err := try.Settle()
	t.s.Login = login
	if err != nil {
		return err
	}
	t.change().PINs = card
	return nil
}

// file finds an elementary file.
func (t *tx) file(id uint16) (File, bool) { return t.d.File(id) }

// putFile creates a file or replaces its content.
func (t *tx) putFile(id uint16, data []byte) error {
	old, exists := t.file(id)
	if err := t.room(len(data) - len(old.Data)); err != nil {
		return err
	}
	d := t.change()
	d.Files = slices.Clone(d.Files)
	if !exists {
		d.Files = append(d.Files, File{ID: id, Data: data})
		return nil
	}
	i := slices.IndexFunc(d.Files, func(f File) bool { return f.ID == id })
	d.Files[i].Data = data
	return nil
}

// dropFile removes a file; a missing one is no error.
func (t *tx) dropFile(id uint16) {
	if _, exists := t.file(id); !exists {
		return
	}
	d := t.change()
	d.Files = slices.DeleteFunc(slices.Clone(d.Files), func(f File) bool { return f.ID == id })
	if t.s.Current == id {
		t.s.Current = 0
	}
}

// key finds a user key and makes it ready for use. What preparation costs is
// paid once in a session.
func (t *tx) key(id byte) (keystore.Key, error) {
	k, exists := t.d.Keys[id]
	if !exists {
		return keystore.Key{}, apdu.ReferenceNotFound
	}
	if ready, ok := t.s.ready[id]; ok {
		return ready, nil
	}
	k = k.Prepared()
	ready := maps.Clone(t.s.ready)
	if ready == nil {
		ready = map[byte]keystore.Key{}
	}
	ready[id] = k
	t.s.ready = ready
	return k, nil
}

// putKey stores a key under an id, in place of what was there.
func (t *tx) putKey(id byte, k keystore.Key) error {
	grow := keyMemory(k)
	if old, exists := t.d.Keys[id]; exists {
		grow -= keyMemory(old)
	}
	if err := t.room(grow); err != nil {
		return err
	}
	d := t.change()
	d.Keys = maps.Clone(d.Keys)
	if d.Keys == nil {
		d.Keys = map[byte]keystore.Key{}
	}
	d.Keys[id] = k
	t.forget(id)
	return nil
}

// dropKey removes a key.
func (t *tx) dropKey(id byte) {
	d := t.change()
	d.Keys = maps.Clone(d.Keys)
	delete(d.Keys, id)
	t.forget(id)
	if t.s.Current == pkcs15.File(pkcs15.PrefixKey, id) {
		t.s.Current = 0
	}
}

// forget drops the prepared form of a key that changed. When the command fails
// after all, preparing it again is all that it costs.
func (t *tx) forget(id byte) {
	if _, ok := t.s.ready[id]; ok {
		t.s.ready = maps.Clone(t.s.ready)
		delete(t.s.ready, id)
	}
}

// spend counts one use of a key with a use counter, durably, before the key is
// used.
func (t *tx) spend(id byte, k keystore.Key) error {
	if !k.Uses.Limited {
		return nil
	}
	stored := t.d.Keys[id]
	spent, err := stored.Spend()
	if err != nil {
		return err
	}
	d := t.change()
	d.Keys = maps.Clone(d.Keys)
	d.Keys[id] = spent
	t.barrier()
	return nil
}

// room refuses what does not fit into the memory of the card.
func (t *tx) room(grow int) error {
	if grow > 0 && t.d.Free() < grow {
		return apdu.NotEnoughMemory
	}
	return nil
}

// Free is the room left for files and keys in bytes. How hardware accounts for
// it is not known; the sizes are chosen so that there is room for the documented
// numbers of keys.
func (d Durable) Free() int {
	used := 0
	for _, f := range d.Files {
		if f.ID != pkcs15.FileDevice {
			used += len(f.Data) + fileOverhead
		}
	}
	for _, k := range d.Keys {
		used += keyMemory(k)
	}
	return max(0, d.Profile().Memory-used)
}

const fileOverhead = 16

func keyMemory(k keystore.Key) int {
	bytes := (k.Bits() + 7) / 8
	switch k.Kind() {
	case keystore.RSA:
		return bytes * 4
	case keystore.EC:
		return bytes * 5
	}
	return 48
}
