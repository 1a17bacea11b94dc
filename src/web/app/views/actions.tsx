/** Changes an operator may make: each asks first, and needs a token of the operator's file. */
import type { ComponentChildren } from 'preact';
import { useRef, useState } from 'preact/hooks';
import { ApiError, post, token } from '../api.ts';

/** A button with a dialog that says what will happen. `writable` false: the button says why it cannot. */
export function Action(props: {
  readonly label: string;
  readonly title: string;
  readonly path: string;
  readonly body?: object;
  readonly writable: boolean;
  readonly done: (answer: unknown) => string;
  readonly onDone?: () => void;
  readonly children: ComponentChildren;
}) {
  const dialog = useRef<HTMLDialogElement>(null);
  const [outcome, setOutcome] = useState<{ readonly good: boolean; readonly text: string } | undefined>();
  const [isBusy, setBusy] = useState(false);
  const run = async (): Promise<void> => {
    setBusy(true);
    try {
      setOutcome({ good: true, text: props.done(await post<unknown>(props.path, props.body ?? {})) });
      props.onDone?.();
    } catch (error) {
      if (error instanceof ApiError && (error.status === 401 || error.status === 403)) token.set('');
      setOutcome({
        good: false,
        text: error instanceof ApiError ? [error.message, error.hint].filter(Boolean).join('; ') : 'the daemon does not answer',
      });
    } finally {
      setBusy(false);
    }
  };
  return (
    <>
      <button
        type="button"
        disabled={!props.writable}
        title={props.writable ? undefined : 'This port is read-only: cooper.ops.token-file is not set'}
        onClick={() => {
          setOutcome(undefined);
          dialog.current?.showModal();
        }}
      >
        {props.label}
      </button>
      <dialog ref={dialog} aria-label={props.title}>
        <form
          onSubmit={(event) => {
            event.preventDefault();
            void run();
          }}
        >
          <h2>{props.title}</h2>
          {props.children}
          <label>
            Token
            <input
              type="password"
              autocomplete="off"
              required
              defaultValue={token.get()}
              onInput={(event) => token.set(event.currentTarget.value.trim())}
            />
            <span class="note">One of cooper.ops.token-file; kept until this tab closes.</span>
          </label>
          <p role="status" class={outcome === undefined ? 'none' : outcome.good ? 'state good' : 'state bad'}>
            {outcome?.text ?? ''}
          </p>
          <div class="buttons">
            <button type="button" onClick={() => dialog.current?.close()}>
              Close
            </button>
            <button type="submit" class="strong" disabled={isBusy || outcome?.good === true}>
              {props.label}
            </button>
          </div>
        </form>
      </dialog>
    </>
  );
}

export function CancelBuild({ reference, writable }: { readonly reference: string; readonly writable: boolean }) {
  return (
    <Action
      label="Cancel build"
      title="Cancel this build?"
      path={`/builds/${encodeURIComponent(reference)}/cancel`}
      body={{ reason: 'from the page' }}
      writable={writable}
      done={() => 'Cancelled.'}
    >
      <p>Its client is told that an operator cancelled it. Steps that other builds share go on.</p>
    </Action>
  );
}
