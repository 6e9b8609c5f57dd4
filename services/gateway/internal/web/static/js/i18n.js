// Every word that the page shows, in one place. {name} is replaced.

const STRINGS = {
  // Site
  skip: 'Skip to content',
  nav: 'Main',
  navHome: 'Home',
  navTents: 'Tents',
  navBoots: 'Boots',
  account: 'Account',
  logIn: 'Log in',
  logOut: 'Log out',
  loggingOut: 'Logging out…',
  greeting: 'Hello, {name}',
  titleHome: 'Gear for slow mornings and long ridgelines',
  titleTents: 'Tents',
  titleBoots: 'Boots',
  footer: 'A demonstration shop. Nothing here is for sale; the chat is real.',

  // Home
  heroKicker: 'Spring season',
  heroLead: 'Tents and boots made to be repaired, and people who have slept in the rain to help you choose.',
  heroTents: 'See the tents',
  heroBoots: 'See the boots',
  promise1: 'Repairs for life',
  promise1Text: 'Send it in, we patch it, you carry on.',
  promise2: '60 nights to decide',
  promise2Text: 'Sleep in it first. Muddy returns are fine.',
  promise3: 'Real people',
  promise3Text: 'Our chat team guides on weekends.',
  popular: 'What people ask about',

  // Log in
  loginTitle: 'Log in to chat with us',
  loginLead: 'A name is enough. Your e-mail helps us find earlier orders.',
  loginName: 'Your name',
  loginEmail: 'E-mail',
  optional: 'optional',
  loginButton: 'Log in',
  loginBusy: 'Logging in…',
  loginNameMissing: 'Please enter your name.',
  loginEmailWrong: 'That does not look like an e-mail address.',
  loginFailed: 'We could not log you in. {why}',
  noTokenUrl: 'Log-in is not set up on this site: the gateway has no token endpoint. Set WEB_TOKEN_URL, or start the development suite.',
  welcomeTitle: 'Good to see you, {name}',
  welcomeLead: 'Look around. If you want advice, open the chat: our team sees which page you are on.',
  welcomeChat: 'Chat with us',

  // Products
  details: 'Details',
  hideDetails: 'Hide details',
  ask: 'Ask about this',
  from: 'from {price}',

  // Chat
  chatOpen: 'Chat with us',
  chatOpenUnread: 'Open the chat, {count} unread',
  chatBack: 'Back to your chat',
  chatUnreadNews: 'New messages in the chat: {count}',
  chatClose: 'Close the chat window',
  chatTitle: '{company} help',
  chatDialog: 'Chat with {company}',
  chatLog: 'Conversation',
  chatIntroTitle: 'How can we help?',
  chatIntro: 'A person from our team answers, usually within a minute or two.',
  chatLoginFirst: 'Log in first, so that we know who we are talking to.',
  chatGoLogin: 'Go to log-in',
  chatTopic: 'What is it about?',
  chatAbout: 'We see that you are interested in {name}.',
  topicTents: 'Choosing a tent',
  topicBoots: 'Choosing boots',
  topicOrder: 'An order or return',
  topicOther: 'Something else',
  chatStart: 'Start the chat',
  chatStartNew: 'Start a new chat',
  chatStarting: 'Starting…',
  chatEnd: 'End chat',
  chatEndSure: 'End this chat?',
  chatKeep: 'Keep chatting',
  chatInput: 'Your message',
  chatPlaceholder: 'Write a message…',
  chatSend: 'Send',
  chatHint: 'Enter sends, Shift + Enter makes a new line',
  chatTooLong: '{over} characters too long',
  chatLeft: '{left} characters left',
  chatNewBelow: 'New messages',
  chatStartFailed: 'The chat could not be started. {why}',
  chatEndFailed: 'The chat could not be ended. {why}',
  chatReadOnlyIdle: 'We are still here. Start a new chat whenever you like.',
  chatReadOnly: 'This chat has ended. You can read it here, or start a new one.',

  // Status
  statusNone: 'We are here to help',
  statusStarting: 'Starting the chat…',
  statusWaiting: 'Waiting for an agent…',
  statusWaitingHint: 'You are in line. Write already if you like: the agent will see it.',
  statusBot: 'Our assistant is answering',
  statusActive: 'Chatting with {name}',
  statusActiveNoName: 'An agent is with you',
  statusAgentLeft: '{name} has left. Waiting for the next agent…',
  statusAgentLeftNoName: 'The agent has left. Waiting for the next one…',
  statusEnding: 'Ending the chat…',
  statusEnded: 'Chat ended',
  statusFailed: 'The chat could not be started',

  // Still there?
  idleAsk: 'Are you still there?',
  idleAskClosed: 'Are you still there? The chat is about to end. Open the chat to answer',
  idleCount: 'Are you still there? The chat ends in {time}.',
  idleNow: 'Are you still there? The chat is about to end.',
  idleHere: 'I am here',
  idleFailed: 'We could not tell our team. {why}',
  idleNews: 'Are you still there? The chat ends in {time}. Write something, or press “I am here”.',
  idleLast: 'The chat ends in {time}.',
  seconds: '{n} seconds',
  secondsOne: '1 second',
  minutes: '{n} minutes',
  minutesOne: '1 minute',

  // Connection
  connIdle: 'Not connected',
  connConnecting: 'Connecting…',
  connOnline: 'Connected',
  connReconnecting: 'Reconnecting…',
  connOffline: 'Offline. We will reconnect by ourselves.',
  connClosed: 'Disconnected',
  connClosedAuth: 'Please log in again',

  // Messages
  you: 'You',
  agent: 'Agent',
  supervisor: 'Supervisor',
  bot: 'Assistant',
  system: 'Service message',
  msgSending: 'Sending',
  msgAccepted: 'Accepted',
  msgHeld: 'Held, goes out as soon as possible',
  msgSent: 'Sent',
  msgDelivered: 'Delivered',
  msgRead: 'Read',
  msgFailed: 'Not sent',
  msgDeleted: 'This message was removed.',
  msgRetry: 'Try again',
  msgEmpty: 'This message cannot be shown here.',
  typing: '{name} is typing…',
  noticeJoined: '{name} has joined the chat',
  noticeLeft: '{name} has left the chat',
  noticeEnded: 'The chat has ended',
  noticeEndedIdle: 'The chat ended because nothing was said for a while',
  noticeFailed: 'The chat could not be started. Please try again.',
  noticeError: 'Something went wrong on our side: {detail}',
  noticeUnshown: 'Something is missing here: it could not be shown for a fault on our side.',
  noticeNewChat: 'Chat, {time}',

  // Rich content
  fileOpen: 'Download {name}',
  fileFailed: 'The file is not available just now. Try again?',
  fileUnnamed: 'File',
  imageOpen: 'Open the picture {name}',
  cards: 'Cards',
  choices: 'Choices',
  mapOpen: 'Open the map',
  place: 'Place',
  sendLocation: 'Send my location',
  locationRefused: 'Your location is not available. You can type it instead.',
  locationText: 'My location: {lat}, {long}',

  // Why things fail
  whyNETWORK: 'We cannot be reached just now.',
  whyUNAVAILABLE: 'We cannot be reached just now.',
  whyAXP_UNAVAILABLE: 'Our contact centre cannot be reached just now.',
  whyAXP_RATE_LIMITED: 'Our contact centre is very busy just now.',
  whyAXP_REJECTED: 'Our contact centre did not accept it.',
  whyAXP_NOT_FOUND: 'Our contact centre no longer knows this chat.',
  whyAXP_CREDENTIALS: 'Our contact centre cannot be reached just now.',
  whyRATE_LIMITED: 'That was a little fast. Please wait a moment.',
  whyTOKEN_REFUSED: 'Your details were not accepted.',
  whyUNAUTHENTICATED: 'Please log in again.',
  whyTOKEN_EXPIRED: 'Please log in again.',
  whyENGAGEMENT_ENDED: 'The chat has ended.',
  whySESSION_CLOSED: 'Your visit has ended. Please start a new chat.',
  whySESSION_NOT_FOUND: 'Your visit has ended. Please start a new chat.',
  whyMESSAGE_EXPIRED: 'It could not be delivered in time.',
  whyINVALID_ARGUMENT: 'It was not accepted in this form.',
  whyTOO_LARGE: 'It is too long.',
  whyOTHER: 'Please try again.',
};

/** The text for a key. */
export function t(key, values = {}) {
  const text = STRINGS[key] ?? key;
  return text.replace(/\{(\w+)\}/g, (_, name) => String(values[name] ?? ''));
}

/** Why something failed, in words for people. */
export function why(reason) {
  return STRINGS[`why${reason}`] ?? STRINGS.whyOTHER;
}

/** A time of day, in the reader's own way; with the day where that is not today. */
export function clockTime(value, now = new Date()) {
  const date = new Date(value);
  if (Number.isNaN(date.getTime())) return '';
  const clock = date.toLocaleTimeString([], { hour: '2-digit', minute: '2-digit' });
  return date.toDateString() === now.toDateString() ? clock : `${date.toLocaleDateString([], { day: 'numeric', month: 'short' })}, ${clock}`;
}

/** A date and time in full. */
export function fullTime(value) {
  const date = new Date(value);
  return Number.isNaN(date.getTime()) ? '' : date.toLocaleString([], { dateStyle: 'full', timeStyle: 'medium' });
}

/** Seconds as a clock counts them down: 1:58. */
export function countdown(seconds) {
  return `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, '0')}`;
}

/** Seconds as one says them, no more exact than one would. */
export function timeInWords(seconds) {
  const unit = seconds < 60 ? 'seconds' : 'minutes';
  const n = seconds < 60 ? seconds : Math.round(seconds / 60);
  return t(n === 1 ? `${unit}One` : unit, { n });
}

/** A file size. */
export function fileSize(bytes) {
  const n = Number(bytes);
  if (!Number.isFinite(n) || n <= 0) return '';
  if (n < 1024) return `${n} B`;
  if (n < 1024 * 1024) return `${Math.round(n / 1024)} KB`;
  return `${(n / (1024 * 1024)).toFixed(1)} MB`;
}
