// A real OpenID provider with static people, for tests: oidc-provider with one client, forms of its own, and fresh keys at
// every start. Settings come from the environment; "ready" on standard output says that it answers.
import { createHash, generateKeyPairSync, randomBytes } from 'node:crypto';
import Provider from 'oidc-provider';

const { ISSUER, PORT, CLIENT_ID, CLIENT_SECRET, REDIRECT_URI, PEOPLE } = process.env;
// {"subject": {"name": …, "groups": […]}}
const people = JSON.parse(PEOPLE);

const signing = (type, options, alg) => {
  const jwk = generateKeyPairSync(type, options).privateKey.export({ format: 'jwk' });
  const kid = createHash('sha256').update(JSON.stringify(jwk)).digest('hex').slice(0, 16);
  return { ...jwk, kid, alg, use: 'sig' };
};

const provider = new Provider(ISSUER, {
  clients: [{
    client_id: CLIENT_ID,
    client_secret: CLIENT_SECRET,
    redirect_uris: [REDIRECT_URI],
    grant_types: ['authorization_code'],
    response_types: ['code'],
    id_token_signed_response_alg: process.env.ALGORITHM ?? 'RS256',
  }],
  jwks: {
    keys: [
      signing('rsa', { modulusLength: 2048 }, 'RS256'),
      signing('ec', { namedCurve: 'P-256' }, 'ES256'),
      signing('ed25519', {}, 'EdDSA'),
    ],
  },
  cookies: { keys: [randomBytes(16).toString('hex')] },
  claims: { openid: ['sub'], profile: ['preferred_username', 'groups'], email: ['email'] },
  conformIdTokenClaims: process.env.CLAIMS !== 'id_token',
  pkce: { required: () => true },
  features: { devInteractions: { enabled: false } },
  interactions: { url: (_, interaction) => `/interaction/${interaction.uid}` },
  findAccount: (_, sub) => people[sub] && {
    accountId: sub,
    claims: () => ({ sub, preferred_username: people[sub].name, groups: people[sub].groups }),
  },
  // Nobody is asked for consent.
  loadExistingGrant: async (ctx) => {
    const { client, session } = ctx.oidc;
    const grant = new provider.Grant({ clientId: client.clientId, accountId: session.accountId });
    grant.addOIDCScope('openid profile email');
    await grant.save();
    return grant;
  },
  ttl: { AccessToken: 60, AuthorizationCode: 60, Grant: 600, IdToken: 300, Interaction: 600, Session: 600 },
});

provider.use(async (ctx, next) => {
  if (!ctx.path.startsWith('/interaction/')) return next();
  if (ctx.method === 'GET') {
    ctx.type = 'html';
    ctx.body = '<!doctype html><title>provider</title><form method="post"><input name="subject" autofocus>'
      + '<button name="outcome" value="login">log in</button><button name="outcome" value="abort">abort</button></form>';
    return undefined;
  }
  let body = '';
  for await (const chunk of ctx.req) body += chunk;
  const form = new URLSearchParams(body);
  const subject = form.get('subject');
  const result = form.get('outcome') === 'login' && people[subject]
    ? { login: { accountId: subject } }
    : { error: 'access_denied', error_description: 'aborted <b>by</b> the person' };
  return provider.interactionFinished(ctx.req, ctx.res, result, { mergeWithLastSubmission: false });
});

provider.listen(Number(PORT), '127.0.0.1', () => console.log('ready'));
