import { command, type BuildLog } from './command.js';

/** What `npm run` hands on of its own command line: a nested npm would take it for its own. */
const OF_AN_OUTER_NPM = [
  'dry_run',
  'global',
  'include_workspace_root',
  'json',
  'local_prefix',
  'location',
  'package_lock',
  'package_lock_only',
  'workspace',
  'workspaces',
];

interface NpmOptions {
  readonly cwd: string;
  readonly log?: BuildLog;
  readonly signal?: AbortSignal | undefined;
}

/** Runs npm with the user's whole environment, which has what a registry asks for: tokens, agents, proxies. */
export function npm(args: readonly string[], options: NpmOptions): Promise<string> {
  const env = Object.fromEntries(OF_AN_OUTER_NPM.map((name) => [`npm_config_${name}`, undefined]));
  // `npm run -s` would silence this one, too, and its failures would have no reason.
  return command('npm', args, { ...options, env: { ...env, npm_config_loglevel: 'error' } });
}
