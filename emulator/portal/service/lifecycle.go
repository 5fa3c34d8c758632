package service

import (
	"slices"

	"hsmemu/emulator/portal/account"
)

// Type is a kind of service request.
type Type string

// The types. That of PKCS #10 is the vendor's name.
const (
	FirmwareUpdate Type = "FirmwareUpdate"
	Certificate    Type = "PKCS10ServiceRequest"
	DevNet         Type = "DevNetCertificate"
	TrustCenter    Type = "CreateTrustCenter"
	Production     Type = "ProduceToken"
	Signer         Type = "CreateSigner"
	RevocationList Type = "IssueCRL"
)

// titles are what menus call the types.
var titles = map[Type]string{
	FirmwareUpdate: "Update firmware",
	Certificate:    "Request Certificate (PKCS #10)",
	DevNet:         "Request DevNet Certificate",
	TrustCenter:    "Create Trust Center Subject",
	Production:     "Produce Token",
	Signer:         "Create Signer",
	RevocationList: "Issue CRL",
}

// Title is what a menu calls the type.
func (t Type) Title() string { return titles[t] }

// Word is where a request is in its life: what is to be done next, or how it ended.
// Users see it in brackets behind a message.
type Word string

// The words. The first four are the vendor's.
const (
	Edit    Word = "Edit"    // the form is being filled in
	Submit  Word = "Submit"  // it waits for a card
	Approve Word = "Approve" // it waits for a registration officer
	Produce Word = "Produce" // it waits for a certification officer

	Accept    Word = "Accept"    // it waits for the subscriber to take what was issued
	Running   Word = "Running"   // a card is being changed, or waits to be connected again
	Completed Word = "Completed" // it is done
	Rejected  Word = "Rejected"  // an officer said no
	Cancelled Word = "Cancelled" // the subscriber has withdrawn it
	Revoked   Word = "Revoked"   // what was issued holds no more
)

// themselves is the portal, which acts by what cards answer.
const themselves account.Role = "Portal"

// Action is what can be done with a request; it is the text of a button.
type Action string

// The actions of people.
const (
	DoSave      Action = "Save"
	DoSubmit    Action = "Submit"
	DoCancel    Action = "Cancel Request"
	DoApprove   Action = "Approve Request"
	DoReject    Action = "Reject Request"
	DoIssue     Action = "Issue Certificate"
	DoAccept    Action = "Accept Certificate"
	DoRevoke    Action = "Revoke Certificate"
	DoStartOver Action = "Start over"
)

// The actions of the portal itself.
const (
	begin    Action = "begin"
	complete Action = "complete"
	refuse   Action = "refuse"
)

// Step is a row of the table: who may do what with a request of a type in a state,
// and which state it is in then.
type Step struct {
	Type   Type
	From   Word
	Action Action
	// Who may do it: a role in the trust center that the request is for, or in the
	// whole portal. Subscriber is whoever the request belongs to.
	Who account.Role
	To  Word
	// Text is what the log says of it.
	Text string

	// run is what else happens, in the same transaction; nil for nothing.
	run func(*deed) error
}

// steps is the whole life of every request.
var steps = slices.Concat(
	form(FirmwareUpdate, account.Subscriber, Submit, "Request scheduled", nil),
	card(FirmwareUpdate, account.Subscriber),
	form(Production, account.Operator, Submit, "Request scheduled", checkProduction),
	card(Production, account.Operator),
	form(Certificate, account.Subscriber, Approve, "Request submitted", checkCertificate),
	[]Step{
		{Certificate, Approve, DoCancel, account.Subscriber, Cancelled, "Request cancelled", nil},
		{Certificate, Approve, DoApprove, account.RegistrationOfficer, Produce, "Request approved", nil},
		{Certificate, Approve, DoReject, account.RegistrationOfficer, Rejected, "Request rejected", nil},
		{Certificate, Produce, DoIssue, account.CertificationOfficer, Accept, "Certificate issued", issueCertificate},
		{Certificate, Produce, DoReject, account.CertificationOfficer, Rejected, "Request rejected", nil},
		{Certificate, Accept, DoAccept, account.Subscriber, Completed, "Certificate accepted", acceptCertificate},
		{Certificate, Accept, DoRevoke, account.Subscriber, Revoked, "Certificate revoked", revokeCertificate},
		{Certificate, Accept, DoRevoke, account.CertificationOfficer, Revoked, "Certificate revoked", revokeCertificate},
		{Certificate, Completed, DoRevoke, account.Subscriber, Revoked, "Certificate revoked", revokeCertificate},
		{Certificate, Completed, DoRevoke, account.CertificationOfficer, Revoked, "Certificate revoked", revokeCertificate},
		{Certificate, Completed, DoRevoke, account.RegistrationOfficer, Revoked, "Certificate revoked", revokeCertificate},
	},
	form(DevNet, account.Subscriber, Completed, "Certificate issued", issueDevNet),
	[]Step{
		{DevNet, Completed, DoRevoke, account.Subscriber, Revoked, "Certificate revoked", revokeCertificate},
		// For those whose address has no account.
		{DevNet, Completed, DoRevoke, account.CertificationOfficer, Revoked, "Certificate revoked", revokeCertificate},
	},
	form(TrustCenter, account.Subscriber, Completed, "Trust center created", createCenter),
	form(Signer, account.CertificationOfficer, Completed, "Signer created", createSigner),
	form(RevocationList, account.CertificationOfficer, Completed, "CRL issued", issueCRL),
	again(FirmwareUpdate, account.Subscriber, Completed, Cancelled),
	again(Production, account.Operator, Completed, Cancelled),
	again(Certificate, account.Subscriber, Completed, Rejected, Cancelled, Revoked),
	again(DevNet, account.Subscriber, Completed, Cancelled, Revoked),
)

// form is the beginning of every request: its form, up to its submission.
func form(t Type, who account.Role, to Word, text string, run func(*deed) error) []Step {
	return []Step{
		{t, Edit, DoSave, who, Edit, "Request saved", nil},
		{t, Edit, DoSubmit, who, to, text, run},
		{t, Edit, DoCancel, who, Cancelled, "Request cancelled", nil},
	}
}

// card is the life of a request that a card carries out. An interruption leaves it
// Running.
func card(t Type, who account.Role) []Step {
	return []Step{
		{t, Submit, DoCancel, who, Cancelled, "Request cancelled", nil},
		{t, Submit, begin, themselves, Running, "", nil},
		{t, Submit, refuse, themselves, Edit, "", nil},
		{t, Submit, complete, themselves, Completed, "", nil}, // another request has done it
		{t, Running, refuse, themselves, Edit, "", nil},
		{t, Running, complete, themselves, Completed, "", nil},
	}
}

// again makes a new request of one that has ended, with the same form.
func again(t Type, who account.Role, ends ...Word) []Step {
	var list []Step
	for _, w := range ends {
		list = append(list, Step{t, w, DoStartOver, who, w, "Started over", startOver})
	}
	return list
}

// Steps are the rows that are for people, in the order of the table.
func Steps() []Step {
	return slices.DeleteFunc(slices.Clone(steps), func(s Step) bool { return s.Who == themselves })
}

// Starts are the types of which an account can begin a request, in the order of the
// menu.
func Starts(a account.Account) []Type {
	var list []Type
	for _, s := range steps {
		if s.From == Edit && s.Action == DoSave && slices.ContainsFunc(a.Grants, func(g account.Grant) bool { return g.Role == s.Who }) {
			list = append(list, s.Type)
		}
	}
	return list
}

// find is the row for an action in a state.
func find(t Type, from Word, a Action) []Step {
	return slices.DeleteFunc(slices.Clone(steps), func(s Step) bool { return s.Type != t || s.From != from || s.Action != a })
}
