package normalise

import (
	axpchatv1 "github.com/axpchat/connector/gen/axpchat/v1"
)

func participantChanged(o *object) *axpchatv1.ParticipantChanged {
	return &axpchatv1.ParticipantChanged{
		Participant:      participant(o),
		AxpEngagementId:  o.text("engagementId"),
		AxpDialogId:      o.text("dialogId"),
		AxpSessionId:     o.text("sessionId"),
		Account:          o.text("accountId"),
		ChannelId:        o.text("channelId"),
		ProviderDialogId: dialogID(o),
	}
}

// participant reads the fields that participants have wherever AXP names them.
func participant(o *object) *axpchatv1.Participant {
	return &axpchatv1.Participant{
		ParticipantId:         o.text("participantId"),
		ParticipantType:       participantType(o, "participantType"),
		DisplayName:           o.text("displayName"),
		ConnectionId:          o.text("connectionId"),
		ProviderParticipantId: o.text("providerParticipantId"),
		ChannelProviderId:     o.text("channelProviderId"),
	}
}

const participantTypePrefix = "PARTICIPANT_TYPE_"

func participantType(o *object, key string) axpchatv1.ParticipantType {
	return axpchatv1.ParticipantType(o.enum(key, participantTypePrefix, axpchatv1.ParticipantType_value))
}

func engagementCreated(o *object) *axpchatv1.EngagementCreated {
	return &axpchatv1.EngagementCreated{
		AxpEngagementId:        o.text("engagementId"),
		AxpDialogId:            o.text("dialogId"),
		AxpSessionId:           o.text("sessionId"),
		Account:                o.text("accountId"),
		ChannelProviderId:      o.text("channelProviderId"),
		InitiatorParticipantId: o.text("initiatorParticipantId"),
		Conversation:           o.text("conversation"),
		BusinessAccountName:    o.text("businessAccountName"),
		CustomerIdentifiers:    customerIdentifiers(o),
		EngagementParameters:   o.textMap("engagementParameters"),
		ProviderDialogId:       dialogID(o),
		SourceType:             o.text("sourceType"),
		SourceAddress:          o.text("sourceAddress"),
	}
}

// customerIdentifiers reads a map of lists; a single value counts as a list of
// one.
func customerIdentifiers(o *object) map[string]*axpchatv1.IdentifierValues {
	var out map[string]*axpchatv1.IdentifierValues
	o.object("customerIdentifiers", func(inner *object) {
		out = make(map[string]*axpchatv1.IdentifierValues, len(inner.inner))
		for i := range inner.inner {
			n := &inner.inner[i]
			if text, single := n.scalar(); single {
				out[n.key] = &axpchatv1.IdentifierValues{Values: []string{text}}
				n.taken = true
			} else if n.kind == list || n.kind == null {
				out[n.key] = &axpchatv1.IdentifierValues{Values: n.texts()}
			}
		}
	})
	return out
}

func engagementError(o *object) *axpchatv1.EngagementError {
	return &axpchatv1.EngagementError{
		Type:              o.text("type"),
		Title:             o.text("title"),
		Detail:            o.text("detail"),
		AxpEngagementId:   o.text("engagementId"),
		AxpDialogId:       o.text("dialogId"),
		AxpSessionId:      o.text("sessionId"),
		ProviderDialogId:  dialogID(o),
		ChannelProviderId: o.text("channelProviderId"),
		ChannelId:         o.text("channelId"),
		Account:           o.text("accountId"),
	}
}

func typing(o *object) *axpchatv1.Typing {
	t := &axpchatv1.Typing{
		Sender: &axpchatv1.Participant{
			ParticipantId:     o.text("senderParticipantId"),
			ParticipantType:   participantType(o, "senderParticipantType"),
			DisplayName:       o.text("senderParticipantDisplayName"),
			ChannelProviderId: o.text("channelProviderId"),
		},
		AxpEngagementId:     o.text("engagementId"),
		AxpDialogId:         o.text("dialogId"),
		Account:             o.text("accountId"),
		ChannelId:           o.text("channelId"),
		ProviderDialogId:    dialogID(o),
		BusinessAccountName: o.text("businessAccountName"),
		SourceType:          o.text("sourceType"),
		SourceAddress:       o.text("sourceAddress"),
	}
	o.objects("externalRecipientParticipants", func(inner *object) {
		t.ExternalRecipients = append(t.ExternalRecipients, participant(inner))
	})
	return t
}
